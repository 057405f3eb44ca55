// hls::stream for C simulation, where stages run one after the other and a stream holds a whole frame.
//
// Reading an empty stream throws; tokens that are left when a stream ends are reported by csim.hpp. With
// BITWRIGHT_BOUNDED a stream holds no more than its depth, and its processes are fibers that wait (hls_fibers.h).
#ifndef BITWRIGHT_CSIM_HLS_STREAM_H
#define BITWRIGHT_CSIM_HLS_STREAM_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace hls {

// The first thing that went wrong where no exception can be thrown.
inline std::string& stream_complaint() {
    static thread_local std::string text;
    return text;
}

#ifdef BITWRIGHT_BOUNDED

// Depths that stand above those of the design, by the names of the streams.
inline std::map<std::string, std::int64_t>& given_depths() {
    static std::map<std::string, std::int64_t> all;
    return all;
}

// What the scheduler knows of a stream.
struct fifo {
    const char* name;
    std::size_t depth, held = 0;

    explicit fifo(const char* its) : name(its), depth(2) { bound(2); }
    void bound(std::int64_t words) {
        const auto given = given_depths().find(name);
        depth = static_cast<std::size_t>(given == given_depths().end() ? words : given->second);
    }
    void wait(bool for_space);
    static void join();
    static bool stopped();
};

#else

struct fifo {
    const char* name;
    explicit fifo(const char* its) : name(its) {}
};

#endif

template <class T, int DEPTH = 0>
class stream : public fifo {
  public:
    stream() : fifo("unnamed") {}
    explicit stream(const char* name) : fifo(name) {}
    stream(const stream&) = delete;
    stream& operator=(const stream&) = delete;

    ~stream() {
#ifdef BITWRIGHT_BOUNDED
        join();
        if (stopped()) return;
#endif
        if (!empty() && stream_complaint().empty()) {
            stream_complaint() = std::to_string(size()) + " tokens are left in stream " + fifo::name;
        }
    }

    const char* name() const { return fifo::name; }
    bool empty() const { return next_ == tokens_.size(); }
    bool full() const { return false; }
    std::size_t size() const { return tokens_.size() - next_; }

    void write(const T& token) {
#ifdef BITWRIGHT_TRACE
        if (observer_) observer_(token);
#endif
#ifdef BITWRIGHT_BOUNDED
        while (held >= depth) wait(true);
        ++held;
#endif
        tokens_.push_back(token);
    }

    T read() {
#ifdef BITWRIGHT_BOUNDED
        while (held == 0) wait(false);
        --held;
#endif
        if (empty()) throw std::runtime_error(std::string("stream ") + fifo::name + " was read while empty");
        const T token = tokens_[next_++];
        if (empty()) clear();
        return token;
    }

    void read(T& token) { token = read(); }
    void operator<<(const T& token) { write(token); }
    void operator>>(T& token) { token = read(); }

    void clear() {
        tokens_.clear();
        next_ = 0;
    }

#ifdef BITWRIGHT_TRACE
    void on_write(std::function<void(const T&)> observer) { observer_ = observer; }
#endif

  private:
    std::vector<T> tokens_;
    std::size_t next_ = 0;
#ifdef BITWRIGHT_TRACE
    std::function<void(const T&)> observer_;
#endif
};

}  // namespace hls

#ifdef BITWRIGHT_BOUNDED
#include "hls_fibers.h"
#endif

#endif
