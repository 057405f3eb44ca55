// What test_number.py asks of number.hpp over ctypes.
#include <cstddef>
#include <stdexcept>
#include <string>

#include "bitwright/number.hpp"

using bitwright::Number;

static const char* kept(const std::string& text) {
    static std::string last;
    last = text;
    return last.c_str();
}

extern "C" {

// to[i] = the value of a Number of this format after float from[i] was assigned; exact.
void quantise(const char* format, const float* from, double* to, std::size_t count) {
    Number number;
    number.setFormat(format);
    for (std::size_t i = 0; i < count; ++i) {
        number = from[i];
        to[i] = number.asDouble();
    }
}

// to[i] = a[i] op b[i], each converted to its format before; returns the format of the results.
const char* combine(char op, const char* format_a, const char* format_b, const double* a, const double* b, double* to,
                    std::size_t count) {
    Number left, right, result;
    left.setFormat(format_a);
    right.setFormat(format_b);
    result = op == '+' ? left + right : left * right;
    for (std::size_t i = 0; i < count; ++i) {
        left = a[i];
        right = b[i];
        result = op == '+' ? left + right : left * right;
        to[i] = result.asDouble();
    }
    return kept(result.format().text());
}

// What parseConfig throws, or "".
const char* parse_config(const char* file) {
    try {
        Number::parseConfig(file);
        return "";
    } catch (const std::runtime_error& error) {
        return kept(error.what());
    }
}

const char* format_of(const char* key) {
    Number number;
    number.setName(key);
    return kept(number.format().text());
}

// The text of a format, or what is wrong with it after "error: ".
const char* parse_format(const char* text) {
    try {
        return kept(bitwright::NumberFormat::parse(text).text());
    } catch (const std::runtime_error& error) {
        return kept(std::string("error: ") + error.what());
    }
}
}
