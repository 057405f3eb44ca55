// The pragmas that Vitis HLS and Vivado HLS 2020.1 spell differently, so that one source serves both.
//
// The Tcl defines BITWRIGHT_VIVADO_HLS for Vivado HLS. Every pragma on which the tools agree stands in the code
// as a plain `#pragma HLS`. In C simulation all of these are empty, but for the depth of a stream, to which a
// simulation with bounded streams (BITWRIGHT_BOUNDED) keeps.
//
// The synthesised headers keep to C++11, the newest language that Vivado HLS 2020.1 reads completely: no `if
// constexpr`, no inline variables, no fold expressions, constexpr functions of a single return. C++17 is used only
// in csim/csim.hpp.
#ifndef BITWRIGHT_PRAGMAS_HPP
#define BITWRIGHT_PRAGMAS_HPP

#define BITWRIGHT_PRAGMA(text) _Pragma(#text)

#if !defined(__SYNTHESIS__)

#define BITWRIGHT_TOKEN(token) static_assert(true, "")
#define BITWRIGHT_TOKENS(tokens) static_assert(true, "")
#define BITWRIGHT_ROM(table, memory) static_cast<void>(table)
#define BITWRIGHT_IN_DSP(product) static_assert(true, "")
#define BITWRIGHT_IN_LUTS(product) static_assert(true, "")
#ifdef BITWRIGHT_BOUNDED
#define BITWRIGHT_STREAM(stream, words) stream.bound(words)
#else
#define BITWRIGHT_STREAM(stream, words) static_cast<void>(stream)
#endif

#elif defined(BITWRIGHT_VIVADO_HLS)

// A token is one word: Vivado HLS packs a struct where a variable of it is declared.
#define BITWRIGHT_TOKEN(token) BITWRIGHT_PRAGMA(HLS DATA_PACK variable=token)
// An array of tokens, one word each.
#define BITWRIGHT_TOKENS(tokens) BITWRIGHT_PRAGMA(HLS DATA_PACK variable=tokens)
// Where a table of constants lives: in BRAM or LUTRAM.
#define BITWRIGHT_ROM(table, memory) BITWRIGHT_PRAGMA(HLS RESOURCE variable=table core=ROM_1P_##memory)
// What a product is made of. Vivado HLS takes DSPs by itself, as many as a wide product needs; its core has but one.
#define BITWRIGHT_IN_DSP(product) static_assert(true, "")
#define BITWRIGHT_IN_LUTS(product) BITWRIGHT_PRAGMA(HLS RESOURCE variable=product core=Mul_LUT)

// The depth of a FIFO that is deeper than the tools make one.
#define BITWRIGHT_STREAM(stream, words) BITWRIGHT_PRAGMA(HLS STREAM variable=stream depth=words)

#else

// Vitis HLS packs the tokens of a stream by itself, but takes arrays of them apart.
#define BITWRIGHT_TOKEN(token) static_assert(true, "")
#define BITWRIGHT_TOKENS(tokens) BITWRIGHT_PRAGMA(HLS AGGREGATE variable=tokens)
#define BITWRIGHT_ROM(table, memory) BITWRIGHT_PRAGMA(HLS BIND_STORAGE variable=table type=rom_1p impl=memory)
#define BITWRIGHT_IN_DSP(product) BITWRIGHT_PRAGMA(HLS BIND_OP variable=product op=mul impl=dsp)
#define BITWRIGHT_IN_LUTS(product) BITWRIGHT_PRAGMA(HLS BIND_OP variable=product op=mul impl=fabric)
#define BITWRIGHT_STREAM(stream, words) BITWRIGHT_PRAGMA(HLS STREAM variable=stream depth=words)

#endif

#endif
