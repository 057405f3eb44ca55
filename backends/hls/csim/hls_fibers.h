// Fibers for C simulation with bounded streams: every process of a dataflow runs until a stream is full or empty.
//
// A fiber waits for space in a stream, for a token, or for the fibers that it started. They take turns in the order in
// which they were started, so every run is the same. Where none can go on, that is a deadlock of the dataflow: the
// processes are deterministic and wait for one stream at a time, so no other order would have got further. It is
// reported with the cycle of streams that wait for each other. Included with BITWRIGHT_BOUNDED only; C++17.
#ifndef BITWRIGHT_CSIM_HLS_FIBERS_H
#define BITWRIGHT_CSIM_HLS_FIBERS_H

#include <sys/mman.h>
#include <ucontext.h>

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "hls_stream.h"

namespace hls {

struct fiber {
    ucontext_t context;
    void* stack = nullptr;
    std::function<void()> body;
    fiber* parent = nullptr;
    int children = 0;
    bool done = false;
    std::vector<fifo*> streams;  // its arguments

    fifo* waits_for = nullptr;
    bool for_space = false;  // rather than for a token

    bool ready() const {
        if (done) return false;
        if (waits_for != nullptr) return for_space ? waits_for->held < waits_for->depth : waits_for->held > 0;
        return children == 0 || !joining;
    }
    bool joining = false;
};

class scheduler {
  public:
    static scheduler& get() {
        static thread_local scheduler its;
        return its;
    }

    void start(std::function<void()> body, std::vector<fifo*> streams) {
        fibers_.push_back(std::make_unique<fiber>());
        fiber* const made = fibers_.back().get();
        made->body = std::move(body);
        made->streams = std::move(streams);
        made->parent = current_;
        ++current_->children;
        made->stack = stack();
        getcontext(&made->context);
        made->context.uc_stack.ss_sp = made->stack;
        made->context.uc_stack.ss_size = stack_bytes;
        made->context.uc_link = &main_.context;
        makecontext(&made->context, run_current, 0);
    }

    // Called by the fiber that runs, which goes on when the stream has space, or a token.
    void wait(fifo& stream, bool for_space) {
        current_->waits_for = &stream;
        current_->for_space = for_space;
        swapcontext(&current_->context, &main_.context);
        current_->waits_for = nullptr;
    }

    // Ends when every fiber that the caller started has ended, or none can go on.
    void join() {
        if (stopped_ || current_->children == 0) return;
        if (current_ != &main_) {
            current_->joining = true;
            swapcontext(&current_->context, &main_.context);
            current_->joining = false;
            return;
        }
        bool moved = true;
        while (main_.children > 0 && moved) {
            moved = false;
            for (std::size_t n = 0; n < fibers_.size(); ++n) {
                fiber* const next = fibers_[n].get();
                if (!next->ready()) continue;
                moved = true;
                current_ = next;
                swapcontext(&main_.context, &next->context);
                current_ = &main_;
            }
        }
        if (main_.children > 0) {
            stopped_ = true;
            if (stream_complaint().empty()) stream_complaint() = complaint();
        }
    }

    bool stopped() const { return stopped_; }

    // Before another frame.
    void clear() {
        for (auto& one : fibers_) free_.push_back(one->stack);
        fibers_.clear();
        main_.children = 0;
        stopped_ = false;
    }

  private:
    static constexpr std::size_t stack_bytes = std::size_t(1) << 24;  // touched pages only take memory

    scheduler() : current_(&main_) {}

    static void run_current() {
        fiber* const its = get().current_;
        try {
            its->body();
        } catch (const std::exception& problem) {
            if (stream_complaint().empty()) stream_complaint() = problem.what();
        }
        its->done = true;
        --its->parent->children;
    }

    void* stack() {
        if (free_.empty()) {
            void* const made = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (made == MAP_FAILED) throw std::runtime_error("there is no memory for another process");
            return made;
        }
        void* const old = free_.back();
        free_.pop_back();
        return old;
    }

    // The process that a waiting one waits for: that at the other end of its stream.
    fiber* other_end(const fiber* from) const {
        for (const auto& one : fibers_) {
            if (one.get() == from || one->done || one->waits_for == nullptr) continue;
            for (const fifo* stream : one->streams) {
                if (stream == from->waits_for) return one.get();
            }
        }
        return nullptr;
    }

    // The streams of the first cycle of processes that wait for each other; of all that wait where there is none.
    std::string complaint() const {
        std::vector<fiber*> all;
        for (const auto& one : fibers_) {
            if (!one->done && one->waits_for != nullptr) all.push_back(one.get());
        }
        for (fiber* first : all) {
            std::vector<fiber*> path;
            for (fiber* at = first; at != nullptr; at = other_end(at)) {
                for (std::size_t n = 0; n < path.size(); ++n) {
                    if (path[n] == at) return words({path.begin() + static_cast<std::ptrdiff_t>(n), path.end()});
                }
                path.push_back(at);
            }
        }
        return words(all);
    }

    static std::string words(const std::vector<fiber*>& waiting) {
        std::string full, empty;
        for (const fiber* one : waiting) {
            const fifo& stream = *one->waits_for;
            std::string& list = one->for_space ? full : empty;
            list += (list.empty() ? "" : ", ") + std::string(stream.name);
            if (one->for_space) list += " (depth " + std::to_string(stream.depth) + ")";
        }
        return "deadlock: full: " + (full.empty() ? "none" : full) + "; empty: " + (empty.empty() ? "none" : empty);
    }

    std::vector<std::unique_ptr<fiber>> fibers_;
    std::vector<void*> free_;
    fiber main_;
    fiber* current_;
    bool stopped_ = false;
};

inline void fifo::wait(bool for_space) { scheduler::get().wait(*this, for_space); }
inline void fifo::join() { scheduler::get().join(); }
inline bool fifo::stopped() { return scheduler::get().stopped(); }

template <class Argument>
void add_stream(std::vector<fifo*>& all, Argument& argument) {
    if constexpr (std::is_base_of_v<fifo, Argument>) all.push_back(&argument);
}

// Starts a process on its arguments.
template <class Body, class... Arguments>
void start(Body body, Arguments&... arguments) {
    std::vector<fifo*> streams;
    (add_stream(streams, arguments), ...);
    scheduler::get().start(body, std::move(streams));
}

}  // namespace hls

#endif
