// The processes of a dataflow: loops that read streams and write streams.
//
// Each is a function template in namespace process, and is called as nn::NAME<L>(...). That is the function itself,
// but for C simulation with bounded streams (BITWRIGHT_BOUNDED), where the call starts it as a fiber, which runs beside
// the others and waits while a stream is full or empty. A fiber ends before the streams that its caller declares do.
#ifndef BITWRIGHT_PROCESS_HPP
#define BITWRIGHT_PROCESS_HPP

#include "bitwright/stream.hpp"

#ifdef BITWRIGHT_BOUNDED

#include <hls_fibers.h>

#define BITWRIGHT_PROCESS(name)                                                          \
    template <class L, class... Arguments>                                               \
    void name(Arguments&... arguments) {                                                 \
        ::hls::start([&arguments...] { process::name<L>(arguments...); }, arguments...); \
    }

#else

#define BITWRIGHT_PROCESS(name) using process::name;

#endif

#endif
