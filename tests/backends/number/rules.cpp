// The rules of Number, one a function: `rules NAME` runs one of them, and says which line does not hold.
#include <cstdio>
#include <functional>
#include <limits>
#include <map>
#include <string>

#include "bitwright/number.hpp"

using bitwright::Number;

static std::map<std::string, std::function<void()>> rules;
static int broken = 0;

#define RULE(name)                                          \
    static void name();                                     \
    static const bool name##_is_known = (rules[#name] = name, true); \
    static void name()
#define HOLDS(condition) ((condition) ? void() : (++broken, void(std::printf("line %d: %s\n", __LINE__, #condition))))
#define THROWS(exception, statement)                               \
    do {                                                           \
        try {                                                      \
            statement;                                             \
            ++broken;                                              \
            std::printf("line %d: nothing is thrown\n", __LINE__); \
        } catch (const exception&) {                               \
        }                                                          \
    } while (false)

static Number of(const std::string& format, float value) {
    Number number;
    number.setFormat(format);
    number = value;
    return number;
}

static std::string format(const Number& number) { return number.format().text(); }

// ---- names (config.txt: a FIXED 8 / b EXP 4 / c FLOAT 16)

RULE(a_new_number_is_a_float32_zero) {
    Number number;
    HOLDS(number.asFloat() == 0 && format(number) == "FLOAT<32>");
}

RULE(a_name_gives_its_format) {
    Number number;
    number.setName("a");
    HOLDS(format(number) == "FIXED<8>");
}

RULE(a_name_that_is_not_there_gives_float32) {
    Number number = of("FIXED 4", 1);
    number.setName("missing");
    HOLDS(format(number) == "FLOAT<32>");
    number = 0.1f;
    HOLDS(number.asFloat() == 0.1f);
}

RULE(a_name_converts_the_value_that_is_there) {
    Number number = 0.7f;
    number.setName("b");
    HOLDS(number.asFloat() == 0.5f && format(number) == "EXP<4>");
}

RULE(an_array_is_named_as_a_whole) {
    Number numbers[2][3];
    setArrayName(&numbers[0][0], 5, "a");
    HOLDS(format(numbers[0][0]) == "FIXED<8>" && format(numbers[1][1]) == "FIXED<8>");
    HOLDS(format(numbers[1][2]) == "FLOAT<32>");
    bitwright::setArrayName(&numbers[1][2], 0, "a");
    HOLDS(format(numbers[1][2]) == "FLOAT<32>");
}

RULE(the_next_file_replaces_the_dictionary_and_numbers_keep_their_formats) {
    Number before, after;
    before.setName("a");
    Number::parseConfig("other.txt");
    after.setName("b");
    HOLDS(format(before) == "FIXED<8>" && format(after) == "FIXED<4>");
    after.setName("a");
    HOLDS(format(after) == "FLOAT<32>");
}

RULE(a_wrong_file_changes_nothing) {
    THROWS(std::runtime_error, Number::parseConfig("wrong.txt"));
    Number number;
    number.setName("b");
    HOLDS(format(number) == "EXP<4>");
}

// ---- assignment

RULE(native_values_become_float32_without_a_name) {
    Number number;
    number = 0.1f;
    HOLDS(number.asFloat() == 0.1f && format(number) == "FLOAT<32>");
    number = 0.1;
    HOLDS(number.asFloat() == 0.1f && format(number) == "FLOAT<32>");
    number = 16777217;
    HOLDS(number.asFloat() == 16777216.0f && format(number) == "FLOAT<32>");
}

RULE(native_values_are_converted_on_assignment_to_a_name) {
    Number number;
    number.setName("a");
    number = 0.1f;
    HOLDS(number.asDouble() == 6.0 / 64 && format(number) == "FIXED<8>");
    number = 5;
    HOLDS(number.asDouble() == 127.0 / 64 && format(number) == "FIXED<8>");
    number = -1e300;
    HOLDS(number.asDouble() == -127.0 / 64 && format(number) == "FIXED<8>");
}

RULE(a_number_brings_value_and_format) {
    const Number from = of("EXP 6", 3);
    Number unnamed, named;
    named.setName("a");
    unnamed = from;
    named = from;
    HOLDS(unnamed.asFloat() == 4 && format(unnamed) == "EXP<6>");
    HOLDS(named.asFloat() == 4 && format(named) == "EXP<6>");
}

RULE(the_next_native_value_brings_the_own_format_back) {
    Number unnamed, named;
    named.setName("a");
    unnamed = named = of("EXP 6", 3);
    unnamed = 0.1f;
    named = 0.1f;
    HOLDS(format(unnamed) == "FLOAT<32>" && unnamed.asFloat() == 0.1f);
    HOLDS(format(named) == "FIXED<8>" && named.asFloat() == 0.09375f);
}

RULE(a_copy_has_the_own_format_of_the_original) {
    Number number;
    number.setName("a");
    Number copy = number;
    copy = 0.1f;
    HOLDS(format(copy) == "FIXED<8>" && copy.asFloat() == 0.09375f);
}

RULE(nan_and_infinity_are_no_numbers) {
    Number number = 1;
    THROWS(std::domain_error, number = std::numeric_limits<float>::quiet_NaN());
    THROWS(std::domain_error, number = std::numeric_limits<float>::infinity());
    THROWS(std::domain_error, number = number * -std::numeric_limits<double>::infinity());
    HOLDS(number.asFloat() == 1);
}

// ---- computation

RULE(equal_formats_stay) {
    const Number a = of("FIXED 8 2", 0.25f), b = of("FIXED 8 2", 0.125f);
    HOLDS((a + b).asFloat() == 0.375f && format(a + b) == "FIXED<8,B=2>");
    HOLDS((a * b).asFloat() == 0.03125f && format(a * b) == "FIXED<8,B=2>");
}

RULE(equal_formats_saturate) {
    const Number a = of("FIXED 8", 1.5f), b = of("FLOAT 32", 3e38f);
    HOLDS((a + a).asDouble() == 127.0 / 64 && (a * -1).asFloat() == -1.5f);
    HOLDS((b * b).asFloat() == std::numeric_limits<float>::max());
}

RULE(different_formats_compute_in_float32) {
    const Number a = of("FIXED 32", 1 + 0x1p-20f), b = of("FIXED 32 -1", 1 + 0x1p-20f);
    const float product = a.asFloat() * b.asFloat();  // 1 + 2^-19: the 2^-40 does not fit
    HOLDS((a * b).asDouble() == product && format(a * b) == "FIXED<32,B=-1>");
    HOLDS((b * b).asDouble() == 1 + 0x1p-19 && (a * a).asDouble() == 1 + 0x1p-19);
    const Number tiny = of("FIXED 32", 0x1p-30f), one = of("FIXED 31 -1", 1);
    HOLDS((one + tiny).asDouble() == 1);
}

RULE(operands_do_not_change) {
    Number a = of("FIXED 8", 0.5f);
    const Number b = of("EXP 4", 8);
    a * b;
    a + b;
    HOLDS(a.asFloat() == 0.5f && format(a) == "FIXED<8>" && b.asFloat() == 8);
}

RULE(native_operands_are_float32) {
    const Number a = of("FIXED 8", 0.5f), e = of("EXP 9", 0.5f);
    HOLDS((a * 0.1f).asFloat() == 0.5f * 0.1f && format(a * 0.1f) == "FLOAT<32>");
    HOLDS((0.1f + a).asFloat() == 0.1f + 0.5f && format(0.1f + a) == "FLOAT<32>");
    HOLDS((a + 3).asFloat() == 3.5f && (3 * a).asFloat() == 1.5f && format(3 * a) == "FLOAT<32>");
    HOLDS(format(e * 3) == "FLOAT<32>" && (e * 3).asFloat() == 1.5f);
    HOLDS((a * 0.5).asFloat() == 0.25f);
}

RULE(compound_operators_are_operator_and_assignment) {
    Number number = of("FIXED 8", 0.5f);
    number += of("FIXED 8 -3", 1);
    HOLDS(number.asFloat() == 1.5f && format(number) == "FIXED<8,B=-3>");
    number *= 0.1f;
    HOLDS(number.asFloat() == 1.5f * 0.1f && format(number) == "FLOAT<32>");
    number = 0.1f;
    HOLDS(format(number) == "FIXED<8>");
}

RULE(comparisons_are_by_value) {
    const Number a = of("FIXED 8", 0.5f), b = of("EXP 4", 0.5f), c = of("FLOAT 16", -2);
    HOLDS(a == b && !(a != b) && a <= b && a >= b && !(a < b) && !(a > b));
    HOLDS(c < a && a > c && c != a && c <= 0 && a >= 0.5f && 1 > a);
    HOLDS(std::max(a, c).asFloat() == 0.5f);
}

// ---- conversion

RULE(as_int_is_the_nearest_int_ties_to_even) {
    HOLDS(Number(2.5f).asInt() == 2 && Number(3.5f).asInt() == 4 && Number(-2.5f).asInt() == -2);
    HOLDS(Number(2.51f).asInt() == 3 && Number(-0.6f).asInt() == -1 && Number(0.5f).asInt() == 0);
}

RULE(as_int_saturates) {
    HOLDS(Number(1e30f).asInt() == std::numeric_limits<int>::max());
    HOLDS(Number(-1e30f).asInt() == std::numeric_limits<int>::min());
}

RULE(as_float_is_the_nearest_float) {
    Number number;
    number.setFormat("FIXED 32");
    number = 1 + 0x1p-24 + 0x1p-30;
    HOLDS(number.asDouble() == 1 + 0x1p-24 + 0x1p-30 && number.asFloat() == 1 + 0x1p-23f);
    number = 1 + 0x1p-24;
    HOLDS(number.asFloat() == 1);
}

RULE(as_float_saturates) {
    const Number number = of("EXP 9 0", 3e38f) * of("EXP 9 0", 3e38f);
    HOLDS(number.asDouble() == 0x1p255 && number.asFloat() == std::numeric_limits<float>::max());
}

int main(int count, char** arguments) {
    Number::parseConfig("config.txt");
    if (count != 2 || rules.count(arguments[1]) == 0) return 2;
    rules[arguments[1]]();
    return broken > 0 ? 1 : 0;
}
