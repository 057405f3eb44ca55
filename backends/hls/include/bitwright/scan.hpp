// The walk of a kernel over a padded image, one group of channels a step: the counters that window.hpp and
// maxpool.hpp share.
//
// A layer L defines   channels, in_rows, in_cols, out_rows, out_cols, kernel_rows, kernel_cols, stride_rows,
//                     stride_cols, pad_top, pad_left, pad_bottom, pad_right, lanes (channels of an input token).
#ifndef BITWRIGHT_SCAN_HPP
#define BITWRIGHT_SCAN_HPP

#include "bitwright/types.hpp"

namespace bitwright {

template <class L>
struct Scan {
    static constexpr int rows = L::pad_top + L::in_rows + L::pad_bottom;
    static constexpr int cols = L::pad_left + L::in_cols + L::pad_right;
    static constexpr int groups = L::channels / L::lanes;
    static constexpr int places = cols * groups;     // steps of a row
    static constexpr int steps = rows * places;      // steps of a frame
    static constexpr int held = L::kernel_rows - 1;  // rows above that wait in the line buffer
    static constexpr int word = larger(1, held) * L::lanes;  // elements of a word of it, at least one
    // Steps until the first window is complete.
    static constexpr int fill = held * places + L::kernel_cols * groups;

    static_assert(L::channels % L::lanes == 0, "lanes divide the channels");
    static_assert(L::kernel_rows <= rows && L::kernel_cols <= cols, "the kernel fits in the padded image");
    static_assert(L::out_rows == (rows - L::kernel_rows) / L::stride_rows + 1, "out_rows follows from the kernel");
    static_assert(L::out_cols == (cols - L::kernel_cols) / L::stride_cols + 1, "out_cols follows from the kernel");
    // A step reads and writes the line buffer at the same place, which comes back after a row: in a row this long
    // the write has landed by then. A one-dimensional layer lies along the columns.
    static_assert(held == 0 || places >= 4, "a row is at least 4 words long");

    Counter<rows> row = 0;
    Counter<cols> col = 0;
    Counter<groups> group = 0;
    Counter<places> place = 0;
    // Rows and columns to go until the kernel stands at an output position.
    Counter<larger(L::kernel_rows, L::stride_rows)> row_wait = L::kernel_rows - 1;
    Counter<larger(L::kernel_cols, L::stride_cols)> col_wait = L::kernel_cols - 1;

    // Whether the step is on the image rather than on its padding.
    bool inside() const {
#pragma HLS INLINE
        return row >= L::pad_top && row < L::pad_top + L::in_rows && col >= L::pad_left &&
               col < L::pad_left + L::in_cols;
    }

    bool last_group() const {
#pragma HLS INLINE
        return group == groups - 1;
    }

    // Whether the kernel's last row and column are here, at an output position.
    bool at_output() const {
#pragma HLS INLINE
        return row_wait == 0 && col_wait == 0;
    }

    void next() {
#pragma HLS INLINE
        const bool row_ends = place == places - 1;
        if (row_ends) {
            row = after(row, rows - 1);
            row_wait = before(row_wait, L::stride_rows - 1);
            col = 0;
            col_wait = L::kernel_cols - 1;
        } else if (last_group()) {
            ++col;
            col_wait = before(col_wait, L::stride_cols - 1);
        }
        group = after(group, groups - 1);
        place = after(place, places - 1);
    }
};

}  // namespace bitwright

#endif
