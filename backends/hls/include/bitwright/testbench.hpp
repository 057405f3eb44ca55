// The test bench of an accelerator: golden vectors in, golden vectors out, bit for bit. Not synthesised.
//
// Both files hold one frame a line: integers in the order of the stream, separated by blanks. The arguments are their
// names. Written for C++11, which every tool reads.
#ifndef BITWRIGHT_TESTBENCH_HPP
#define BITWRIGHT_TESTBENCH_HPP

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "bitwright/axis.hpp"
#include "bitwright/real.hpp"

namespace bitwright {

template <class P>
bool read_frame(std::istream& file, std::vector<std::int64_t>& frame) {
    frame.clear();
    std::int64_t value = 0;
    while (static_cast<int>(frame.size()) < P::elements && file >> value) frame.push_back(value);
    return static_cast<int>(frame.size()) == P::elements;
}

// The number that an integer of a port stands for; of FIXED in steps.
template <class F>
double real_of(std::int64_t value, const F*) {
    return static_cast<double>(value);
}

template <int S, int E, int F, int B>
double real_of(std::int64_t value, const Float<S, E, F, B>*) {
    return Real<Float<S, E, F, B>>::number(static_cast<typename Float<S, E, F, B>::Type>(value));
}

// 0 if every output of every frame is the golden one; else 1, after saying which is the first that differs. Of a
// network that computes in float32 it may be off by an amount, or by a share of the largest output of the frame.
template <class In, class Out, class Top>
int testbench(Top& top, int count, char** arguments, double amount = 0, double share = 0) {
    const typename Out::Format* const format = nullptr;
    if (count != 3) {
        std::cerr << "usage: testbench golden_input.txt golden_output.txt" << std::endl;
        return 1;
    }
    std::ifstream inputs(arguments[1]), golden(arguments[2]);
    std::vector<std::int64_t> sent, expected;
    int frames = 0;

    while (read_frame<In>(inputs, sent)) {
        hls::stream<typename Port<In>::Axis> in("input");
        hls::stream<typename Port<Out>::Axis> out("output");
        for (int i = 0; i < Port<In>::trips; ++i) {
            auto beat = empty_beat<typename In::Format, In::beat>(i == Port<In>::trips - 1);
            for (int n = 0; n < In::beat; ++n) into_beat<typename In::Format, In::beat>(beat, n, sent[i * In::beat + n]);
            in.write(beat);
        }
        top(in, out);

        if (!read_frame<Out>(golden, expected)) {
            std::cerr << "frame " << frames << ": no golden output" << std::endl;
            return 1;
        }
        double largest = 0;
        for (const std::int64_t value : expected) largest = std::max(largest, std::abs(real_of(value, format)));
        const double allowed = std::max(amount, share * largest);
        for (int i = 0; i < Port<Out>::trips; ++i) {
            const typename Port<Out>::Axis beat = out.read();
            for (int n = 0; n < Out::beat; ++n) {
                const int element = i * Out::beat + n;
                const std::int64_t value =
                    static_cast<std::int64_t>(from_beat<typename Out::Format, Out::beat>(beat, n));
                const double apart = std::abs(real_of(value, format) - real_of(expected[element], format));
                if (value != expected[element] && !(apart <= allowed)) {
                    std::cerr << "frame " << frames << ", output " << element << ": " << value << ", not "
                              << expected[element] << std::endl;
                    return 1;
                }
            }
            if ((beat.last != 0) != (i == Port<Out>::trips - 1)) {
                std::cerr << "frame " << frames << ": TLAST is not on the last beat" << std::endl;
                return 1;
            }
        }
        ++frames;
    }
    std::cout << frames << " frames, every output " << (amount > 0 ? "within its tolerance" : "bit as it should be")
              << std::endl;
    return frames > 0 ? 0 : 1;
}

}  // namespace bitwright

#endif
