// One beat of an AXI stream for C simulation: D bits of data, U, ID and DEST bits beside them.
#ifndef BITWRIGHT_CSIM_AP_AXI_SDATA_H
#define BITWRIGHT_CSIM_AP_AXI_SDATA_H

#include "bitwright/types.hpp"

template <int D, int U, int ID, int DEST>
struct ap_axiu {
    bitwright::UInt<D> data;
    bitwright::UInt<(D + 7) / 8> keep;
    bitwright::UInt<(D + 7) / 8> strb;
    bitwright::UInt<bitwright::larger(1, U)> user;
    bitwright::UInt<1> last;
    bitwright::UInt<bitwright::larger(1, ID)> id;
    bitwright::UInt<bitwright::larger(1, DEST)> dest;
};

#endif
