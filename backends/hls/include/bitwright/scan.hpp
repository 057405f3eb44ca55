// The walk of a kernel over an image, one token a step: the counters that window.hpp, maxpool.hpp and avgpool.hpp share.
//
// A token is a group of channels of a pixel, or some whole pixels that lie side by side. Padding above and beside the
// image takes no step: the columns under the kernel are held in the order in which they came, across the ends of rows,
// and those that are not of the image count as padding. A token's windows are complete `delay` tokens after it.
// (Padding that is wider than the kernel gives windows of nothing else; for it the image begins at `first_row`,
// `first_col`.)
//
// A layer L defines   channels, in_rows, in_cols, out_rows, out_cols, kernel_rows, kernel_cols, stride_rows,
//                     stride_cols, pad_top, pad_left, pad_bottom, pad_right, lanes (elements of an input token).
#ifndef BITWRIGHT_SCAN_HPP
#define BITWRIGHT_SCAN_HPP

#include "bitwright/types.hpp"

namespace bitwright {

template <class L>
struct Scan {
    static constexpr int pixels = larger(1, L::lanes / L::channels);  // of a token
    static constexpr int groups = larger(1, L::channels / L::lanes);  // tokens of a pixel
    static constexpr int windows = larger(1, pixels / L::stride_cols);  // side by side, that a token completes
    static constexpr int stride = pixels > 1 ? 1 : L::stride_cols;      // tokens from window to window
    static constexpr int held = L::kernel_rows - 1;                     // rows above that wait in the line buffer
    static constexpr int word = larger(1, held) * L::lanes;             // elements of a word of it, at least one
    static constexpr int top = smaller(L::pad_top, held), left = smaller(L::pad_left, L::kernel_cols - 1);
    static constexpr int first_row = L::pad_top - top, first_col = L::pad_left - left;
    static constexpr int end_row = first_row + L::in_rows, end_col = first_col + L::in_cols / pixels;
    static constexpr int last_row = (L::out_rows - 1) * L::stride_rows;          // of the last windows
    static constexpr int last_col = (L::out_cols / windows - 1) * stride;        // in tokens
    // A step reads and writes the line buffer at the same place, which comes back after a row: in a row of 4 words the
    // write has landed by then.
    static constexpr int least = held == 0 ? 1 : (groups + 3) / groups;
    static constexpr int cols = larger(larger(end_col, last_col + 1), least);    // tokens of a row
    static constexpr int ahead = ((windows - 1) * L::stride_cols + L::kernel_cols - 1 - left) / pixels;
    static constexpr int delay = (held - top) * cols + ahead;
    static constexpr int places = cols * groups;  // steps of a row
    static constexpr int steps =
        groups * larger((end_row - 1) * cols + end_col, delay + last_row * cols + last_col + 1);  // of a frame
    static constexpr int span = left + (ahead + 1) * pixels;  // columns that are held
    static constexpr int part = smaller(L::lanes, L::channels);        // channels of a token
    static constexpr int across = (span - 1) * L::channels + part;     // elements of a row that is held
    static constexpr int out_lanes = windows * part;                   // elements of a pooling's output token

    static_assert(L::channels == groups * L::lanes || L::lanes == pixels * L::channels, "lanes divide the channels");
    static_assert(pixels == 1 || (L::in_cols % pixels == 0 && pixels % L::stride_cols == 0), "tokens divide the rows");
    static_assert(L::out_cols % windows == 0, "tokens of windows divide the rows of the result");
    static_assert(pixels == 1 || first_col == 0, "padding is narrower than the kernel");
    static_assert(L::out_rows == (L::pad_top + L::in_rows + L::pad_bottom - L::kernel_rows) / L::stride_rows + 1,
                  "out_rows follows from the kernel");
    static_assert(L::out_cols == (L::pad_left + L::in_cols + L::pad_right - L::kernel_cols) / L::stride_cols + 1,
                  "out_cols follows from the kernel");

    // Where the token that enters stands: its row, and its place in the row.
    Counter<steps / places + 1> row = 0;
    Counter<places> place = 0;
    Counter<groups> group = 0;
    // Where the windows stand that it completes, as rows of the padded image and tokens, once `wait` is over.
    Counter<delay + 1> wait = delay;
    Counter<steps / places + 1> out_row = 0;
    Counter<cols> out_col = 0;
    // Rows and tokens to go until the kernel stands at an output position.
    Counter<L::stride_rows> row_wait = 0;
    Counter<stride> col_wait = 0;

    // Whether the token that enters is the image's.
    bool inside() const {
#pragma HLS INLINE
        return row >= first_row && row < end_row && place >= first_col * groups && place < end_col * groups;
    }

    // Whether the row of the kernel that is `above` the newest one has come; before, it is padding.
    bool come(int above) const {
#pragma HLS INLINE
        return top == 0 || row >= above;
    }

    // Whether a column that is held, of those from the windows' first, is the image's: of most it always is.
    bool within(int column) const {
#pragma HLS INLINE
        const int at = static_cast<int>(out_col) * pixels + column - left, end = end_col * pixels;
        const bool after_start = column - left >= first_col * pixels || at >= first_col * pixels;
        const bool before_end = last_col * pixels + column - left < end || at < end;
        return after_start && before_end;
    }

    bool last_group() const {
#pragma HLS INLINE
        return group == groups - 1;
    }

    // Whether the windows are at an output position.
    bool at_output() const {
#pragma HLS INLINE
        return wait == 0 && row_wait == 0 && col_wait == 0 && (last_col + stride >= cols || out_col <= last_col);
    }

    void next() {
#pragma HLS INLINE
        if (last_group()) {
            if (wait > 0) {
                --wait;
            } else if (out_col == cols - 1) {
                out_col = 0;
                col_wait = 0;
                ++out_row;
                row_wait = before(row_wait, L::stride_rows - 1);
            } else {
                ++out_col;
                col_wait = before(col_wait, stride - 1);
            }
        }
        if (place == places - 1) ++row;
        group = after(group, groups - 1);
        place = after(place, places - 1);
    }
};

}  // namespace bitwright

#endif
