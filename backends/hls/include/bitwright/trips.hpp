// How many trips each process makes: for C simulation with BITWRIGHT_TRIPS only.
//
// BITWRIGHT_TRIP(i, process) stands in the loop of each process, whose variable is i; everywhere else it is empty. In C
// simulation a process runs to its end before the next begins, so trip 0 opens a record and the others go into the last.
// Records are in the order of the dataflow, frame after frame. csim.hpp hands them out in C.
#ifndef BITWRIGHT_TRIPS_HPP
#define BITWRIGHT_TRIPS_HPP

#if !defined(BITWRIGHT_TRIPS) || defined(__SYNTHESIS__)

#define BITWRIGHT_TRIP(i, process) static_assert(true, "")

#else

#include <cstdint>
#include <vector>

#define BITWRIGHT_TRIP(i, process) ::bitwright::trips::count(i, #process)

namespace bitwright {
namespace trips {

struct Record {
    const char* process;
    std::int64_t trips;
};

inline std::vector<Record>& records() {
    static std::vector<Record> all;
    return all;
}

inline void count(int i, const char* process) {
    if (i == 0) records().push_back(Record{process, 0});
    ++records().back().trips;
}

}  // namespace trips
}  // namespace bitwright

#endif

#endif
