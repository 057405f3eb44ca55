// Number: a number whose format is read from a file when the program runs, after libnumber (its Table 2, section 4).
// For programs on a computer, C++17 without -ffast-math; not synthesised.
//
//     Number::parseConfig("config.txt");                          // conv1.weight FIXED 8 2
//     Number filter[6][25], input[25];
//     setArrayName(&filter[0][0], 6 * 25, "conv1.weight");
//     filter[0][0] = 0.37f;                                       // the nearest number of FIXED 8 with bias 2
//     output += (filter[0][0] * input[0]).asFloat();
//
// Formats are libnumber's canonical <n_s, n_e, n_f, B>. Their values and their rounding are those of
// bitwright.ir.formats to the last bit (canonical.py there states them): to nearest, ties to even, saturating, every
// code a finite number.
//
// The rules of section 4, and how they are read where the paper leaves room:
//
// - Assignment. Two sentences: from a Number "both the value and format attributes are copied over"; for a native
//   value the "format attributes are set appropriately (e.g., (FLOAT, <1, 8, 23, 127>))". Read literally, the second
//   would undo setArrayName in Figure 6, whose arrays get their formats first and their float data later. So a
//   Number with a name has a format of its own, and a native value is converted to it on assignment; without a name
//   it becomes FLOAT 32, an int or double as well. The first sentence holds as it stands, for a Number with a name
//   too: the format is the copied one until the next native value brings the own format back. Copy construction
//   copies the own format, too. setName converts the value that is there; setFormat does the same for a format that
//   no file names.
// - a + b and a * b. Table 2 has them return Number&, Figure 6 leaves the operands alone: the result is a new
//   Number. Equal formats: the exact result is rounded once, to that format. Different formats: both operands become
//   float, the result is computed in float and rounded to the format of wider range. A native operand is a FLOAT 32
//   Number. a += b and a *= b mean a = a + b and a = a * b.
// - Wider range. FLOAT goes before EXP, whatever the ranges. Otherwise the larger maximum decides, since the rule is
//   to "prevent value saturation", and of equal maxima the finer step. Unsigned formats are not the paper's: next to
//   a signed operand an unsigned format that wins gets a sign bit, or negative results would saturate at 0.
// - A name that is not in the file means FLOAT 32. The dictionary is global: parseConfig replaces it, or throws and
//   leaves it; Numbers that have a format keep it. parseConfig and setFormat must not run while other threads use
//   Numbers.
// - asFloat and asInt give the nearest float and int, ties to even, saturated. NaN and infinity are no Numbers:
//   assigning them throws std::domain_error. Results saturate.
//
// A line of the file is `name KIND width [bias]`; // and # begin comments. KIND is FLOAT, FIXED, EXP or BIN, or
// UFLOAT, UFIXED, UEXP without sign. `FLOAT<16,E=8,B=127>` gives exponent bits and bias where they are not the
// default; HALF, BFLOAT16, FP8_E4M3 and the other names of bitwright.ir.formats stand for their formats. A format
// has 1 to 32 bits, at most 10 of them exponent, and values that are normal doubles. AFFINE and lists a channel are
// refused: they are no <n_s, n_e, n_f, B>.
#ifndef BITWRIGHT_NUMBER_HPP
#define BITWRIGHT_NUMBER_HPP

#include <algorithm>
#include <array>
#include <cctype>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace bitwright {

// One format. Each is made once and lives as long as the program, so that equal formats have equal addresses.
struct NumberFormat {
    int n_s, n_e, n_f, bias;
    double quantum;                 // distance of the smallest values, 2^(1-B-n_f); FIXED: the step
    double unit;                    // 2^-n_f
    double max;                     // the largest value
    const NumberFormat* with_sign;  // the same with n_s = 1

    static const NumberFormat& of(int n_s, int n_e, int n_f, int bias);
    static const NumberFormat& parse(const std::string& text);  // throws std::runtime_error that says what is wrong

    int width() const { return n_s + n_e + n_f; }
    std::string kind() const {
        return (n_s ? "" : "U") + std::string(n_e ? (n_f ? "FLOAT" : "EXP") : (n_f ? "FIXED" : "BIN"));
    }
    std::string text() const;        // as in a graph: FIXED<15,B=-3>
    double nearest(double x) const;  // of any x but NaN
    const NumberFormat& wider(const NumberFormat& other) const;

    // n_e of FLOAT(width), and B, where a text does not give them.
    static int default_exponent_bits(int width) { return width >= 19 ? 8 : width >= 9 ? 5 : width >= 6 ? 4 : 2; }
    static int default_bias(int n_e) { return n_e > 0 && n_e < 32 ? (1 << (n_e - 1)) - 1 : 0; }
};

// The quantum of x is the distance of its representable neighbours; x goes to its nearest multiple.
inline double NumberFormat::nearest(double x) const {
    if (n_e == 0 && n_f == 0) return x >= 0 ? max : -max;
    const double low = n_s ? -max : 0.0;
    if (x >= max) return max;
    if (x <= low) return low;
    double q = quantum;
    if (n_e > 0) {
        std::uint64_t bits;
        std::memcpy(&bits, &x, sizeof bits);
        bits &= std::uint64_t(0x7FF) << 52;
        double power;  // 2^floor(log2 |x|)
        std::memcpy(&power, &bits, sizeof power);
        q = std::max(q, power * unit);
    }
    return std::rint(x / q) * q;
}

inline const NumberFormat& NumberFormat::wider(const NumberFormat& other) const {
    const NumberFormat* wide = max > other.max || (max == other.max && quantum <= other.quantum) ? this : &other;
    if (n_e > 0 && other.n_e > 0 && (n_f > 0) != (other.n_f > 0)) wide = n_f > 0 ? this : &other;
    return n_s || other.n_s ? *wide->with_sign : *wide;
}

inline const NumberFormat& NumberFormat::of(int n_s, int n_e, int n_f, int bias) {
    static std::map<std::array<int, 4>, NumberFormat> made;
    const int top = n_e == 0 ? 1 : n_e <= 10 ? (1 << n_e) - 1 : 9999;  // the maximum is significand * 2^(top - B)
    if (n_f > 50 || std::abs(bias) > 9999 || top - bias > 1023 || 1 - n_f - bias < -1022) {
        throw std::runtime_error("its values are not all normal doubles");
    }
    const auto [place, is_new] = made.try_emplace({n_s, n_e, n_f, bias});
    NumberFormat& format = place->second;
    if (is_new) {
        const double unit = std::ldexp(1, -n_f), significand = n_e > 0 ? 2 - unit : n_f > 0 ? 1 - unit : 0.5;
        const NumberFormat* const with_sign = n_s ? &format : &of(1, n_e, n_f, bias);
        format = {n_s, n_e, n_f, bias, std::ldexp(unit, 1 - bias), unit, std::ldexp(significand, top - bias),
                  with_sign};
    }
    return format;
}

inline std::string NumberFormat::text() const {
    std::string text = kind() + "<" + std::to_string(width());
    if (n_e > 0 && n_f > 0 && n_e != default_exponent_bits(width())) text += ",E=" + std::to_string(n_e);
    if (bias != default_bias(n_e)) text += ",B=" + std::to_string(bias);
    return text + ">";
}

namespace detail {

inline std::string trimmed(const std::string& text) {
    const char* const blanks = " \t\r\n\v\f";
    const std::size_t first = text.find_first_not_of(blanks);
    return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(blanks) + 1 - first);
}

// The parts of text between separators, trimmed.
inline std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    std::size_t from = 0, to = 0;
    for (; to != std::string::npos; from = to + 1) {
        to = text.find(separator, from);
        parts.push_back(trimmed(text.substr(from, to - from)));
    }
    return parts;
}

// KIND<field,...>, or KIND field ... of blanks between: {KIND, field, ...}; no fields where neither is complete.
inline std::vector<std::string> format_fields(const std::string& text) {
    const std::size_t open = text.find('<');
    std::vector<std::string> fields{text.substr(0, open)};
    if (open == std::string::npos) {
        std::istringstream words(text);
        fields.clear();
        for (std::string word; words >> word;) fields.push_back(fields.size() == 2 ? "B=" + word : word);
    } else if (text.back() == '>') {
        for (std::string& field : split(text.substr(open + 1, text.size() - open - 2), ',')) fields.push_back(field);
    }
    return fields;
}

// Whether text is an integer of at most nine digits.
inline bool read_integer(const std::string& text, int& value) {
    const std::size_t sign = text.find_first_of("+-") == 0 ? 1 : 0;
    const std::size_t digits = text.size() - sign;
    if (digits < 1 || digits > 9 || text.find_first_not_of("0123456789", sign) != std::string::npos) return false;
    value = std::stoi(text);
    return true;
}

}  // namespace detail

inline const NumberFormat& NumberFormat::parse(const std::string& text) {
    static const std::map<std::string, std::string> names{
        {"FLOAT32", "FLOAT 32"},      {"HALF", "FLOAT 16"},         {"BFLOAT16", "FLOAT<16,E=8>"},
        {"FP8_E4M3", "FLOAT<8,E=4>"}, {"FP8_E5M2", "FLOAT<8,E=5>"}, {"MS_FP9", "FLOAT 9"},
        {"FIXED16", "FIXED 16"},      {"FIXED11", "FIXED 11"},      {"FIXED8", "FIXED 8"},
        {"LOGQUANT4", "EXP 4"}};
    const auto refused = [&](const std::string& why) { return std::runtime_error('"' + text + "\": " + why); };
    const std::runtime_error malformed = refused("write KIND width [bias], such as FIXED 8 -1 or EXP 4");

    std::vector<std::string> fields = detail::format_fields(text);
    if (fields.empty()) throw malformed;
    std::string kind = fields[0];
    for (char& letter : kind) letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
    const auto named = names.find(kind);
    if (fields.size() == 1 && named != names.end()) return parse(named->second);
    const int n_s = kind[0] == 'U' ? 0 : 1;
    const bool is_float = kind == "FLOAT" || kind == "UFLOAT", is_exp = kind == "EXP" || kind == "UEXP";
    if (kind == "AFFINE") throw refused("a Number has a canonical format <n_s, n_e, n_f, B>, and AFFINE is none");
    if (!is_float && !is_exp && kind != "FIXED" && kind != "UFIXED" && kind != "BIN") {
        throw refused("there is no number kind " + fields[0] + "; there are [U]FLOAT, [U]FIXED, [U]EXP and BIN");
    }

    int width = 0;
    std::map<std::string, int> given;
    if (kind == "BIN" && (fields.size() < 2 || !detail::read_integer(fields[1], width))) {
        fields.insert(fields.begin() + 1, "1");
    }
    if (fields.size() < 2 || !detail::read_integer(fields[1], width)) throw malformed;
    for (std::size_t i = 2; i < fields.size(); ++i) {
        const std::vector<std::string> sides = detail::split(fields[i], '=');
        const bool known = sides[0] == "B" || (sides[0] == "E" && is_float);
        if (sides.size() != 2 || !known || given.count(sides[0]) > 0) throw malformed;
        if (!detail::read_integer(sides[1], given[sides[0]])) throw refused(sides[0] + " is an integer");
    }

    if (kind == "BIN" && width != 1) throw refused("BIN has 1 bit");
    if (width < 1 || width > 32) throw refused("a Number has 1 to 32 bits");
    const int usual = is_float ? default_exponent_bits(width) : is_exp ? width - n_s : 0;
    const int n_e = given.count("E") > 0 ? given["E"] : usual;
    const int n_f = width - n_s - n_e;
    if (is_float && (n_e < 1 || n_f < 1)) throw refused("no fraction bits are left; EXP has none");
    try {
        return of(n_s, n_e, n_f, given.count("B") > 0 ? given["B"] : default_bias(n_e));
    } catch (const std::runtime_error& error) {
        throw refused(error.what());
    }
}

class Number {
public:
    Number() = default;
    Number(const Number&) = default;
    template <class Native, class = std::enable_if_t<std::is_arithmetic_v<Native>>>
    Number(Native native) { *this = native; }

    static void parseConfig(const std::string& file);
    void setName(const std::string& key) { setFormat(lookUp(key)); }
    void setFormat(const std::string& text) { setFormat(NumberFormat::parse(text)); }

    Number& operator=(const Number& other) {
        value_ = other.value_;
        format_ = other.format_;
        return *this;
    }
    template <class Native, class = std::enable_if_t<std::is_arithmetic_v<Native>>>
    Number& operator=(Native native) {
        const double x = static_cast<double>(native);
        if (!std::isfinite(x)) throw std::domain_error("a Number is neither NaN nor infinite");
        format_ = own_ != nullptr ? own_ : single();
        value_ = format_->nearest(x);
        return *this;
    }

    float asFloat() const { return static_cast<float>(std::clamp<double>(value_, -FLT_MAX, FLT_MAX)); }
    int asInt() const { return static_cast<int>(std::clamp<double>(std::rint(value_), INT_MIN, INT_MAX)); }
    double asDouble() const { return value_; }  // exact for every format
    const NumberFormat& format() const { return *format_; }

    friend Number operator+(const Number& a, const Number& b) {
        if (a.format_ == b.format_) return Number(sum(a.value_, b.value_), *a.format_);
        return Number(a.asFloat() + b.asFloat(), a.format_->wider(*b.format_));
    }
    friend Number operator*(const Number& a, const Number& b) {
        if (a.format_ == b.format_) return Number(product(a.value_, b.value_, a.format_->n_f), *a.format_);
        return Number(a.asFloat() * b.asFloat(), a.format_->wider(*b.format_));
    }
    Number& operator+=(const Number& other) { return *this = *this + other; }
    Number& operator*=(const Number& other) { return *this = *this * other; }

    // By value, whatever the formats.
    friend bool operator==(const Number& a, const Number& b) { return a.value_ == b.value_; }
    friend bool operator!=(const Number& a, const Number& b) { return a.value_ != b.value_; }
    friend bool operator<(const Number& a, const Number& b) { return a.value_ < b.value_; }
    friend bool operator>(const Number& a, const Number& b) { return a.value_ > b.value_; }
    friend bool operator<=(const Number& a, const Number& b) { return a.value_ <= b.value_; }
    friend bool operator>=(const Number& a, const Number& b) { return a.value_ >= b.value_; }

    friend void setArrayName(Number* numbers, std::size_t count, const std::string& key);

private:
    using Dictionary = std::map<std::string, const NumberFormat*>;

    Number(double result, const NumberFormat& format) : value_(format.nearest(result)), format_(&format) {}

    void setFormat(const NumberFormat& format) {
        own_ = format_ = &format;
        value_ = format.nearest(value_);
    }

    static const NumberFormat* single() {
        static const NumberFormat* const format = &NumberFormat::of(1, 8, 23, 127);
        return format;
    }
    static Dictionary& dictionary() {
        static Dictionary formats;
        return formats;
    }
    static const NumberFormat& lookUp(const std::string& key) {
        const auto found = dictionary().find(key);
        return found != dictionary().end() ? *found->second : *single();
    }

    // Exact results that no double holds are rounded to odd, to the neighbour whose last bit is 1: rounding that to a
    // format of at least two bits fewer gives the same as rounding the exact result.
    static double sum(double a, double b) {
        const double near = a + b, part = near - a;
        return odd(near, (a - (near - part)) + (b - part));
    }
    static double product(double a, double b, int n_f) {
        return n_f <= 25 ? a * b : odd(a * b, std::fma(a, b, -(a * b)));
    }
    static double odd(double near, double error) {
        std::uint64_t bits;
        std::memcpy(&bits, &near, sizeof bits);
        if (error == 0 || bits % 2 != 0 || !std::isfinite(near)) return near;
        bits = (error > 0) == (near > 0) ? bits + 1 : bits - 1;
        std::memcpy(&near, &bits, sizeof bits);
        return near;
    }

    double value_ = 0;
    const NumberFormat* format_ = single();
    const NumberFormat* own_ = nullptr;  // what native values are converted to; FLOAT 32 if there is none
};

inline void Number::parseConfig(const std::string& file) {
    std::ifstream stream(file);
    Dictionary formats;
    std::string line;
    for (int number = 1; std::getline(stream, line); ++number) {
        line = detail::trimmed(line.substr(0, std::min(line.find("//"), line.find('#'))));
        if (line.empty()) continue;
        try {
            const std::size_t end = line.find_first_of(" \t");
            const std::string key = line.substr(0, end);
            if (end == std::string::npos) throw std::runtime_error(key + " has no format");
            if (formats.count(key) > 0) throw std::runtime_error(key + " is given twice");
            formats[key] = &NumberFormat::parse(detail::trimmed(line.substr(end)));
        } catch (const std::runtime_error& error) {
            throw std::runtime_error(file + ":" + std::to_string(number) + ": " + error.what());
        }
    }
    if (!stream.eof()) throw std::runtime_error(file + ": cannot be read");
    dictionary() = std::move(formats);
}

inline void setArrayName(Number* numbers, std::size_t count, const std::string& key) {
    const NumberFormat& format = Number::lookUp(key);
    for (std::size_t i = 0; i < count; ++i) numbers[i].setFormat(format);
}

}  // namespace bitwright

#endif
