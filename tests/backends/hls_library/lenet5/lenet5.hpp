// bitwright 0.1.0, model 3f1c09ab, target pynq-z2: the accelerator lenet5
//
// One call takes one frame: image[784] in rows of pixels, logits[10]. Slowest stage: conv3, 2400 cycles.
#ifndef LENET5_HPP
#define LENET5_HPP

#include "shapes.hpp"

void lenet5(hls::stream<bitwright::Beat<lenet5_net::image_t>>& image, hls::stream<bitwright::Beat<lenet5_net::fc7_t>>& logits);

#endif
