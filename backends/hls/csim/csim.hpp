// Runs an accelerator on the CPU from plain arrays, through its AXI ports. C++17; included once, by a csim.cpp:
//
//     extern "C" int bitwright_run(const std::int64_t* const* inputs, std::int64_t* const* outputs,
//                                  std::int64_t frames) {
//         return bitwright::csim::run(lenet5, Inputs<Image>(), Outputs<Logits>(), inputs, outputs, frames);
//     }
//
//     g++ -std=c++17 -O3 -march=native -shared -fPIC -I include -I csim lenet5.cpp csim.cpp -o lenet5.so
//
// inputs[i] and outputs[i] hold the frames of port i one after the other, in stream order (channels last). The result
// is 0, or 1 and bitwright_error() says why: a value outside its format, a stream that ran dry or was not drained, a
// last beat without TLAST; with BITWRIGHT_BOUNDED also a deadlock, at the depths of the design or at those that
// bitwright_set_depth gives.
#ifndef BITWRIGHT_CSIM_HPP
#define BITWRIGHT_CSIM_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include "bitwright/axis.hpp"

namespace bitwright::csim {

template <class... Ports>
struct Inputs {};

template <class... Ports>
struct Outputs {};

inline std::string& error() {
    static thread_local std::string text;
    return text;
}

template <class P>
using Axis = hls::stream<typename Port<P>::Axis>;

template <class P>
void send(const std::int64_t* values, Axis<P>& port) {
    using F = typename P::Format;
    for (int i = 0; i < Port<P>::trips; ++i) {
        auto beat = empty_beat<F, P::beat>(i == Port<P>::trips - 1);
        for (int n = 0; n < P::beat; ++n) {
            const std::int64_t value = values[i * P::beat + n];
            if (value < F::min || value > F::max) {
                throw std::runtime_error("input value " + std::to_string(value) + " is outside its format, " +
                                         std::to_string(F::min) + " to " + std::to_string(F::max));
            }
            into_beat<F, P::beat>(beat, n, value);
        }
        port.write(beat);
    }
}

template <class P>
void receive(Axis<P>& port, std::int64_t* values) {
    using F = typename P::Format;
    for (int i = 0; i < Port<P>::trips; ++i) {
        const typename Port<P>::Axis beat = port.read();
        if ((beat.last != 0) != (i == Port<P>::trips - 1)) throw std::runtime_error("TLAST is not on the last beat");
        if (beat.keep != empty_beat<F, P::beat>(false).keep) throw std::runtime_error("TKEEP is not all ones");
        for (int n = 0; n < P::beat; ++n) {
            values[i * P::beat + n] = static_cast<std::int64_t>(from_beat<F, P::beat>(beat, n));
        }
    }
    if (!port.empty()) throw std::runtime_error("more beats came out than a frame has");
}

template <class Top, class... In, class... Out, std::size_t... I, std::size_t... O>
void frame(Top& top, Inputs<In...>, Outputs<Out...>, std::index_sequence<I...>, std::index_sequence<O...>,
           const std::int64_t* const* inputs, std::int64_t* const* outputs, std::int64_t n) {
    std::tuple<Axis<In>...> in(((void)sizeof(In), "of an input port")...);
    std::tuple<Axis<Out>...> out(((void)sizeof(Out), "of an output port")...);
#ifdef BITWRIGHT_BOUNDED
    hls::scheduler::get().clear();
    (std::get<I>(in).bound(2 * In::elements), ...);
    (std::get<O>(out).bound(2 * Out::elements), ...);
#endif
    (send<In>(inputs[I] + n * In::elements, std::get<I>(in)), ...);
    top(std::get<I>(in)..., std::get<O>(out)...);
    if (!hls::stream_complaint().empty()) return;
    (receive<Out>(std::get<O>(out), outputs[O] + n * Out::elements), ...);
}

template <class Top, class... In, class... Out>
int run(Top& top, Inputs<In...> in, Outputs<Out...> out, const std::int64_t* const* inputs,
        std::int64_t* const* outputs, std::int64_t frames) {
    error().clear();
    for (std::int64_t n = 0; n < frames && error().empty(); ++n) {
        hls::stream_complaint().clear();
        try {
            frame(top, in, out, std::index_sequence_for<In...>(), std::index_sequence_for<Out...>(), inputs, outputs,
                  n);
            error() = hls::stream_complaint();
        } catch (const std::exception& problem) {
            error() = problem.what();
        }
        if (!error().empty()) error() = "frame " + std::to_string(n) + ": " + error();
    }
    return error().empty() ? 0 : 1;
}

}  // namespace bitwright::csim

extern "C" {

const char* bitwright_error() { return bitwright::csim::error().c_str(); }

#ifdef BITWRIGHT_BOUNDED
void bitwright_set_depth(const char* stream, std::int64_t words) { hls::given_depths()[stream] = words; }
void bitwright_clear_depths() { hls::given_depths().clear(); }
#endif

// The trace of all frames since it was last cleared; without BITWRIGHT_TRACE it has no streams.
#ifdef BITWRIGHT_TRACE
int bitwright_trace_streams() { return static_cast<int>(bitwright::trace::records().size()); }
const char* bitwright_trace_name(int i) { return bitwright::trace::records()[i].name.c_str(); }
std::int64_t bitwright_trace_size(int i) {
    return static_cast<std::int64_t>(bitwright::trace::records()[i].values.size());
}
const std::int64_t* bitwright_trace_values(int i) { return bitwright::trace::records()[i].values.data(); }
std::int64_t bitwright_trace_saturated(int i) { return bitwright::trace::records()[i].saturated; }
void bitwright_trace_clear() { bitwright::trace::records().clear(); }
#else
int bitwright_trace_streams() { return 0; }
const char* bitwright_trace_name(int) { return ""; }
std::int64_t bitwright_trace_size(int) { return 0; }
const std::int64_t* bitwright_trace_values(int) { return nullptr; }
std::int64_t bitwright_trace_saturated(int) { return 0; }
void bitwright_trace_clear() {}
#endif

// The trips of the processes since they were last cleared; without BITWRIGHT_TRIPS there are none.
#ifdef BITWRIGHT_TRIPS
int bitwright_trips_processes() { return static_cast<int>(bitwright::trips::records().size()); }
const char* bitwright_trips_name(int i) { return bitwright::trips::records()[i].process; }
std::int64_t bitwright_trips_count(int i) { return bitwright::trips::records()[i].trips; }
void bitwright_trips_clear() { bitwright::trips::records().clear(); }
#else
int bitwright_trips_processes() { return 0; }
const char* bitwright_trips_name(int) { return ""; }
std::int64_t bitwright_trips_count(int) { return 0; }
void bitwright_trips_clear() {}
#endif
}

#endif
