// hls::stream for C simulation, where stages run one after the other and a stream holds a whole frame.
//
// Reading an empty stream throws; tokens that are left when a stream ends are reported by csim.hpp.
#ifndef BITWRIGHT_CSIM_HLS_STREAM_H
#define BITWRIGHT_CSIM_HLS_STREAM_H

#include <cstddef>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace hls {

// The first thing that went wrong where no exception can be thrown.
inline std::string& stream_complaint() {
    static thread_local std::string text;
    return text;
}

template <class T, int DEPTH = 0>
class stream {
  public:
    stream() : name_("unnamed") {}
    explicit stream(const char* name) : name_(name) {}
    stream(const stream&) = delete;
    stream& operator=(const stream&) = delete;

    ~stream() {
        if (!empty() && stream_complaint().empty()) {
            stream_complaint() = std::to_string(size()) + " tokens are left in stream " + name_;
        }
    }

    const char* name() const { return name_; }
    bool empty() const { return next_ == tokens_.size(); }
    bool full() const { return false; }
    std::size_t size() const { return tokens_.size() - next_; }

    void write(const T& token) {
#ifdef BITWRIGHT_TRACE
        if (observer_) observer_(token);
#endif
        tokens_.push_back(token);
    }

    T read() {
        if (empty()) throw std::runtime_error(std::string("stream ") + name_ + " was read while empty");
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
    const char* name_;
    std::vector<T> tokens_;
    std::size_t next_ = 0;
#ifdef BITWRIGHT_TRACE
    std::function<void(const T&)> observer_;
#endif
};

}  // namespace hls

#endif
