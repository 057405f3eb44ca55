// What flows between the layers, and how often each saturates: for C simulation with BITWRIGHT_TRACE only.
//
// Everywhere else the macros are empty. Names are those of the streams, in the order in which layers ran; values are
// the integers in stream order, frame after frame. csim.hpp hands them out in C.
#ifndef BITWRIGHT_TRACE_HPP
#define BITWRIGHT_TRACE_HPP

#if !defined(BITWRIGHT_TRACE) || defined(__SYNTHESIS__)

#define BITWRIGHT_TRACE_STREAM(stream) static_assert(true, "")
#define BITWRIGHT_TRACE_LAYER(L, stream) static_assert(true, "")
#define BITWRIGHT_TRACE_ROUNDED(L, value) static_assert(true, "")

#else

#include <hls_stream.h>

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#define BITWRIGHT_TRACE_STREAM(stream) ::bitwright::trace::watch(stream)
#define BITWRIGHT_TRACE_LAYER(L, stream) ::bitwright::trace::current<L>() = ::bitwright::trace::watch(stream)
#define BITWRIGHT_TRACE_ROUNDED(L, value) ::bitwright::trace::count<L>(value)

namespace bitwright {
namespace trace {

struct Record {
    std::string name;
    std::vector<std::int64_t> values;
    std::int64_t saturated;
};

inline std::deque<Record>& records() {
    static std::deque<Record> all;
    return all;
}

inline Record* record(const std::string& name) {
    for (Record& known : records()) {
        if (known.name == name) return &known;
    }
    records().push_back(Record{name, {}, 0});
    return &records().back();
}

// The record of layer L while it runs.
template <class L>
Record*& current() {
    static Record* its = nullptr;
    return its;
}

// Records every token that is written to the stream from now on.
template <class Token>
Record* watch(hls::stream<Token>& stream) {
    Record* const to = record(stream.name());
    stream.on_write([to](const Token& token) {
        for (const auto& element : token.data) to->values.push_back(static_cast<std::int64_t>(element));
    });
    return to;
}

// A saturation is a value that the format cut; one that the activation cut was meant to be.
template <class L, class Wide>
void count(const Wide& rounded) {
    const bool low = L::Activation::low < L::Out::min && rounded < static_cast<Wide>(L::Out::min);
    const bool high = L::Activation::high > L::Out::max && rounded > static_cast<Wide>(L::Out::max);
    if ((low || high) && current<L>() != nullptr) ++current<L>()->saturated;
}

}  // namespace trace
}  // namespace bitwright

#endif

#endif
