// The test bench of an accelerator: golden vectors in, golden vectors out, bit for bit. Not synthesised.
//
// Both files hold one frame a line: integers in the order of the stream, separated by blanks. The arguments are their
// names. Written for C++11, which every tool reads.
#ifndef BITWRIGHT_TESTBENCH_HPP
#define BITWRIGHT_TESTBENCH_HPP

#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "bitwright/stream.hpp"

namespace bitwright {

template <class P>
bool read_frame(std::istream& file, std::vector<std::int64_t>& frame) {
    frame.clear();
    std::int64_t value = 0;
    while (static_cast<int>(frame.size()) < P::elements && file >> value) frame.push_back(value);
    return static_cast<int>(frame.size()) == P::elements;
}

// 0 if every output of every frame is the golden one; else 1, after saying which is the first that differs.
template <class In, class Out, class Top>
int testbench(Top& top, int count, char** arguments) {
    if (count != 3) {
        std::cerr << "usage: testbench golden_input.txt golden_output.txt" << std::endl;
        return 1;
    }
    std::ifstream inputs(arguments[1]), golden(arguments[2]);
    std::vector<std::int64_t> sent, expected;
    int frames = 0;

    while (read_frame<In>(inputs, sent)) {
        hls::stream<Beat<typename In::Format>> in("input");
        hls::stream<Beat<typename Out::Format>> out("output");
        for (int i = 0; i < In::elements; ++i) {
            Beat<typename In::Format> beat;
            beat.data = static_cast<UInt<container_bits(In::Format::bits)>>(sent[i]);
            beat.keep = (1 << container_bits(In::Format::bits) / 8) - 1;
            beat.strb = beat.keep;
            beat.last = i == In::elements - 1;
            in.write(beat);
        }
        top(in, out);

        if (!read_frame<Out>(golden, expected)) {
            std::cerr << "frame " << frames << ": no golden output" << std::endl;
            return 1;
        }
        for (int i = 0; i < Out::elements; ++i) {
            const Beat<typename Out::Format> beat = out.read();
            const std::int64_t value = static_cast<std::int64_t>(static_cast<typename Out::Format::Type>(beat.data));
            if (value != expected[i]) {
                std::cerr << "frame " << frames << ", output " << i << ": " << value << ", not " << expected[i] << std::endl;
                return 1;
            }
            if ((beat.last != 0) != (i == Out::elements - 1)) {
                std::cerr << "frame " << frames << ": TLAST is not on the last beat" << std::endl;
                return 1;
            }
        }
        ++frames;
    }
    std::cout << frames << " frames, every output bit as it should be" << std::endl;
    return frames > 0 ? 0 : 1;
}

}  // namespace bitwright

#endif
