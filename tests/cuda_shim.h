/* SPDX-License-Identifier: MIT
 * cuda_shim.h: as much of CUDA as the device kernels use, on the CPU, for tests. Not fast, not complete, and meaner than
 * a GPU where it may be:
 * - Every CUDA thread is a fiber. Which one runs next is drawn wherever they meet others: at barriers, in warps, and at
 *   atomics. A few blocks of threads live at the same time, in drawn order, so that blocks really meet.
 * - Streams only remember what they are given until the host synchronises.
 * - Device memory cannot be touched by the host outside of kernels and copies, is poisoned when allocated, and ends at
 *   a page that nobody may touch. Shared memory is poisoned, too.
 * - A barrier, or an exchange within a warp, that not all threads come to ends the kernel: cudaErrorLaunchFailure.
 * CUSHIM_SEED in the environment draws other orders; the same seed gives the same run. What it cannot show: stores that
 * other blocks see late or out of order. Threads of the host take turns: one call at a time, and while one computes,
 * the others could touch device memory unnoticed.
 *
 * With CUSHIM_PTHREADS every CUDA thread is a thread of the operating system instead, and the thread sanitizer sees what
 * runs without an order: threads of a block between two barriers, and up to three blocks beside each other. It is told
 * no more than CUDA promises:
 * - Barriers order memory; values that a warp exchanges do not.
 * - Atomics, and what is volatile (gcc: --param tsan-distinguish-volatile=1), are no race, and order nothing by
 *   themselves. A fence before one that writes, and one after a read of the same place, do.
 * A barrier that not all threads come to is waited at for good there: that is the fibers' part. */
#ifndef WEFT_TESTS_CUDA_SHIM_H
#define WEFT_TESTS_CUDA_SHIM_H

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <algorithm>
#include <functional>
#include <mutex>
#include <vector>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CUSHIM_PTHREADS
#include <pthread.h>
#include <sched.h>
#if defined __has_feature && !defined __SANITIZE_THREAD__
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
extern "C" void AnnotateIgnoreSyncBegin(const char *file, int line);
extern "C" void AnnotateIgnoreSyncEnd(const char *file, int line);
#endif
#endif

typedef enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorLaunchFailure = 719
} cudaError_t;
typedef enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice
} cudaMemcpyKind;
typedef enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16 } cudaDeviceAttr;

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace cushim {

enum { WARP = 32, MOST_THREADS = 1024, STACK = 64 << 10, SHARED = 48 << 10, PAGE = 4096, POISON = 0xFF };

/* ---- threads of the host ---- */
inline std::recursive_mutex &turns() {
    static std::recursive_mutex m;
    return m;
}
#define CUSHIM_TURN const std::lock_guard<std::recursive_mutex> cushim_turn(cushim::turns())

/* What has been done on the device, so far. */
struct work_done {
    uint64_t launches, copies, products;
};
inline work_done &done() {
    static work_done all;
    return all;
}

/* ---- seeded choice ---- */
inline uint64_t &state() {
    static uint64_t s = getenv("CUSHIM_SEED") ? strtoull(getenv("CUSHIM_SEED"), NULL, 0) : 1;
    return s;
}
inline size_t below(size_t n) {
    uint64_t z = state() += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (size_t)((z ^ z >> 31) % n);
}

/* ---- memory ---- */
struct allocation {
    unsigned char *base;
    size_t bytes; /* whole pages, without the one that nobody may touch */
};
inline std::vector<allocation> &memory() {
    static std::vector<allocation> m;
    return m;
}
inline void open_memory(bool open) {
    for (const allocation &a : memory()) mprotect(a.base, a.bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE);
}
/* All n bytes at p: 1 in one piece of device memory, 0 outside of it, -1 across an edge. */
inline int where(const void *p, size_t n) {
    const unsigned char *c = (const unsigned char *)p;
    for (const allocation &a : memory())
        if (c + n > a.base && c < a.base + a.bytes + PAGE) return c >= a.base && c + n <= a.base + a.bytes ? 1 : -1;
    return 0;
}

#ifdef CUSHIM_PTHREADS
/* ---- threads of the operating system ---- */
enum { BESIDE = 3, SEEN = 16 };
struct block;
struct fiber {
    block *home;
    unsigned thread, turn, warp_turn;
    uint64_t value[WARP];
    bool fenced;            /* since the last barrier: what it writes next for others tells of all before */
    const void *seen[SEEN]; /* read since the last fence, by atomics or as volatile */
    unsigned count;
};
/* Of two barriers by turns whoever is slow to leave one does not see who has come to the next. */
struct warp {
    pthread_barrier_t all[2], hand[2];
    uint64_t value[WARP];
};
struct block {
    dim3 index;
    std::vector<fiber> fibers;
    std::vector<warp> warps;
    pthread_barrier_t all[2], begin, end;
    unsigned char *shared;
};
struct machine {
    const std::function<void()> *body;
    dim3 grid, threads;
};
inline machine &m() {
    static machine one;
    return one;
}
inline fiber *&self() {
    static thread_local fiber *me;
    return me;
}
inline void stop(const char *what) {
    fprintf(stderr, "cuda_shim: %s\n", what);
    _Exit(1);
}

#ifdef __SANITIZE_THREAD__
/* What others wrote at p before they told of it is seen from here on. */
inline void take(const void *p) {
    __tsan_acquire((void *)(uintptr_t)p);
}
inline void before_write(const void *p) {
    if (self() && self()->fenced) __tsan_release((void *)(uintptr_t)p);
}
inline void after_read(const void *p) {
    fiber *f = self();
    if (!f || std::find(f->seen, f->seen + f->count, p) != f->seen + f->count) return;
    if (f->count == SEEN) /* data: nobody tells of anything by them */
        take(p);
    else
        f->seen[f->count++] = p;
}
inline void order(bool on) {
    (on ? AnnotateIgnoreSyncEnd : AnnotateIgnoreSyncBegin)(__FILE__, __LINE__);
}
#else
inline void take(const void *) {}
inline void before_write(const void *) {}
inline void after_read(const void *) {}
inline void order(bool) {}
#endif
inline void fence() {
    fiber *f = self();
    for (unsigned i = 0; i < f->count; i++) take(f->seen[i]);
    f->count = 0;
    f->fenced = true;
    sched_yield();
}
inline void yield() {
    sched_yield();
}
inline void barrier(const char *) {
    fiber *f = self();
    f->fenced = false;
    pthread_barrier_wait(&f->home->all[f->turn++ % 2]);
}
inline void meet(const char *) {
    fiber *f = self();
    f->fenced = false;
    pthread_barrier_wait(&f->home->warps[f->thread / WARP].all[f->warp_turn++ % 2]);
}
/* Only whole warps. The hand-over is none that orders anything. */
inline const uint64_t *exchange(const char *, unsigned mask, uint64_t value) {
    fiber *f = self();
    warp &w = f->home->warps[f->thread / WARP];
    if (mask != 0xFFFFFFFFu) stop("a part of a warp exchanges");
    order(false);
    __atomic_store_n(&w.value[f->thread % WARP], value, __ATOMIC_RELAXED);
    pthread_barrier_wait(&w.hand[0]);
    for (unsigned i = 0; i < WARP; i++) f->value[i] = __atomic_load_n(&w.value[i], __ATOMIC_RELAXED);
    pthread_barrier_wait(&w.hand[1]);
    order(true);
    return f->value;
}

inline void *live(void *arg) {
    fiber *f = self() = (fiber *)arg;
    block *b = f->home;
    for (;;) {
        pthread_barrier_wait(&b->begin);
        f->turn = f->warp_turn = f->count = 0;
        f->fenced = false;
        (*m().body)();
        pthread_barrier_wait(&b->end);
    }
    return NULL;
}

/* They are made once, and never end. */
inline block *crew(unsigned which, unsigned threads) {
    static block *made[BESIDE][MOST_THREADS / WARP + 1];
    block *&b = made[which][threads / WARP];
    pthread_attr_t a;
    if (b) return b;
    b = new block;
    b->shared = (unsigned char *)malloc(SHARED);
    b->fibers.resize(threads);
    b->warps.resize(threads / WARP);
    for (unsigned i = 0; i < 2; i++) pthread_barrier_init(&b->all[i], NULL, threads);
    pthread_barrier_init(&b->begin, NULL, threads + 1);
    pthread_barrier_init(&b->end, NULL, threads + 1);
    for (warp &w : b->warps)
        for (unsigned i = 0; i < 2; i++) {
            pthread_barrier_init(&w.all[i], NULL, WARP);
            pthread_barrier_init(&w.hand[i], NULL, WARP);
        }
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 4 * STACK);
    pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
    for (unsigned i = 0; i < threads; i++) {
        pthread_t id;
        b->fibers[i].home = b;
        b->fibers[i].thread = i;
        if (pthread_create(&id, &a, live, &b->fibers[i])) stop("no more threads");
    }
    pthread_attr_destroy(&a);
    return b;
}

/* All blocks of a launch, up to three of them beside each other, in drawn order. */
inline cudaError_t run(unsigned grid, unsigned threads, size_t asked, const std::function<void()> &body) {
    const unsigned most = BESIDE - (unsigned)below(2);
    std::vector<unsigned> order(grid);
    (void)asked; /* the fibers' part, too */
    if (threads % WARP) return cudaErrorInvalidConfiguration;
    for (unsigned i = 0; i < grid; i++) order[i] = i;
    for (unsigned i = grid; i > 1; i--) std::swap(order[i - 1], order[below(i)]);
    m().body = &body;
    m().grid = dim3(grid);
    m().threads = dim3(threads);
    for (unsigned at = 0; at < grid; at += most) {
        const unsigned n = std::min(most, grid - at);
        for (unsigned i = 0; i < n; i++) {
            block *b = crew(i, threads);
            b->index = dim3(order[at + i]);
            memset(b->shared, POISON, SHARED);
        }
        for (unsigned i = 0; i < n; i++) pthread_barrier_wait(&crew(i, threads)->begin);
        for (unsigned i = 0; i < n; i++) pthread_barrier_wait(&crew(i, threads)->end);
    }
    return cudaSuccess;
}
#else
/* ---- fibers ---- */
struct block;
struct fiber {
    ucontext_t context;
    block *home;
    unsigned thread;
    const char *site; /* what it waits at, and how: NULL, 'b' or 'w' */
    char waits;
    uint64_t value[WARP]; /* what a warp exchanged */
    jmp_buf here;
    bool begun;
    void *fake; /* the address sanitizer's */
};
struct warp {
    unsigned arrived, mask;
    const char *site;
    uint64_t value[WARP];
};
struct block {
    dim3 index;
    std::vector<fiber> fibers;
    std::vector<warp> warps;
    unsigned alive, waiting;
    unsigned char *shared;
};
struct machine {
    ucontext_t context, fresh;
    fiber *now;
    std::vector<fiber *> ready;
    std::vector<unsigned char *> stacks;
    jmp_buf here;
    const std::function<void()> *body;
    dim3 grid, threads;
    const char *fault;
    void *fake;
    const void *bottom;
    size_t bytes;
};
inline machine &m() {
    static machine one;
    return one;
}

inline fiber *self() {
    return m().now;
}

/* swapcontext asks the kernel each time, so that it is only used to begin, or where the sanitizer must be told. */
#ifdef __SANITIZE_ADDRESS__
inline void enter(fiber *f) {
    __sanitizer_start_switch_fiber(&m().fake, f->context.uc_stack.ss_sp, STACK);
    swapcontext(&m().context, &f->context);
    __sanitizer_finish_switch_fiber(m().fake, NULL, NULL);
}
inline void leave(bool over = false) {
    fiber *f = m().now;
    __sanitizer_start_switch_fiber(over ? NULL : &f->fake, m().bottom, m().bytes);
    swapcontext(&f->context, &m().context);
    __sanitizer_finish_switch_fiber(f->fake, NULL, NULL);
}
#else
inline __attribute__((noinline)) void enter(fiber *f) {
    if (_setjmp(m().here)) return;
    if (f->begun) _longjmp(f->here, 1);
    f->begun = true;
    setcontext(&f->context);
}
inline __attribute__((noinline)) void leave(bool = false) {
    if (!_setjmp(m().now->here)) _longjmp(m().here, 1);
}
#endif
inline void yield() {
    if (below(4)) return; /* often enough */
    m().ready.push_back(m().now);
    leave();
}
inline void stop(const char *what) {
    if (!m().fault) m().fault = what;
    m().now->waits = 'x';
    leave();
}

inline void release(block *b) {
    b->waiting = 0;
    for (fiber &f : b->fibers)
        if (f.waits == 'b') {
            f.waits = 0;
            m().ready.push_back(&f);
        }
}
inline void barrier(const char *site) {
    fiber *f = m().now;
    block *b = f->home;
    for (const fiber &o : b->fibers)
        if (o.waits == 'b' && o.site != site) return stop("threads of a block wait at different barriers");
    if (b->alive != b->fibers.size()) return stop("a barrier that not all threads of the block come to");
    f->waits = 'b';
    f->site = site;
    if (++b->waiting == b->alive) release(b);
    leave();
}
/* All lanes of the mask hand in a value and get all values. */
inline const uint64_t *exchange(const char *site, unsigned mask, uint64_t value) {
    fiber *f = m().now;
    const unsigned lane = f->thread % WARP;
    warp &w = f->home->warps[f->thread / WARP];
    if (!(mask >> lane & 1u)) {
        stop("a thread that its own mask does not name");
        return f->value;
    }
    if (w.arrived && (w.mask != mask || w.site != site)) {
        stop("threads of a warp exchange in different places");
        return f->value;
    }
    w.mask = mask;
    w.site = site;
    w.arrived |= 1u << lane;
    w.value[lane] = value;
    f->waits = 'w';
    if (w.arrived == mask) {
        fiber *first = &f->home->fibers[f->thread - lane];
        w.arrived = 0;
        for (unsigned i = 0; i < WARP; i++)
            if (mask >> i & 1u) {
                memcpy(first[i].value, w.value, sizeof w.value);
                first[i].waits = 0;
                m().ready.push_back(&first[i]);
            }
    }
    leave();
    return f->value;
}

inline void fiber_main() {
    fiber *f = m().now;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, &m().bottom, &m().bytes);
#endif
    (*m().body)();
    f->home->alive--;
    if (f->home->waiting) m().fault = "a barrier that not all threads of the block come to";
    f->waits = 'd';
    leave(true);
}

inline void start(block *b, dim3 index, unsigned char *shared, unsigned char *const *stacks) {
    const unsigned n = m().threads.x;
    b->index = index;
    b->fibers.assign(n, fiber());
    b->warps.assign((n + WARP - 1) / WARP, warp());
    b->alive = n;
    b->waiting = 0;
    b->shared = shared;
    memset(shared, POISON, SHARED);
    for (unsigned i = 0; i < n; i++) {
        fiber *f = &b->fibers[i];
        f->home = b;
        f->thread = i;
        f->context = m().fresh;
        f->context.uc_stack.ss_sp = stacks[i];
        f->context.uc_stack.ss_size = STACK;
        makecontext(&f->context, fiber_main, 0);
        m().ready.push_back(f);
    }
}

/* All blocks of a launch, up to four of them beside each other. */
inline cudaError_t run(unsigned grid, unsigned threads, size_t asked, const std::function<void()> &body) {
    done().launches++;
    const size_t most = 1 + below(4);
    std::vector<unsigned> order(grid);
    std::vector<block> blocks(std::min<size_t>(most, grid));
    std::vector<unsigned char> shared(blocks.size() * SHARED);
    volatile size_t begun = 0, over = 0; /* the compiler sees that somebody may jump */
    for (unsigned i = 0; i < grid; i++) order[i] = i;
    for (unsigned i = grid; i > 1; i--) std::swap(order[i - 1], order[below(i)]);
    while (m().stacks.size() < blocks.size() * threads)
        m().stacks.push_back((unsigned char *)mmap(NULL, STACK, PROT_READ | PROT_WRITE,
                                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    m().ready.clear();
    getcontext(&m().fresh);
    m().body = &body;
    m().grid = dim3(grid);
    m().threads = dim3(threads);
    m().fault = NULL;
    for (block &b : blocks) b.alive = 0;
    while (over < grid && !m().fault) {
        for (size_t i = 0; i < blocks.size(); i++)
            if (!blocks[i].alive && begun < grid) {
                start(&blocks[i], dim3(order[begun]), &shared[i * SHARED], &m().stacks[i * threads]);
                begun = begun + 1;
            }
        if (m().ready.empty()) {
            m().fault = "threads wait for others that never come";
            break;
        }
        const size_t at = below(m().ready.size());
        fiber *f = m().ready[at];
        m().ready[at] = m().ready.back();
        m().ready.pop_back();
        m().now = f;
        enter(f);
        if (f->waits == 'd' && !f->home->alive) {
            const unsigned char *rest = f->home->shared + asked;
            if (asked < SHARED && (*rest != POISON || memcmp(rest, rest + 1, SHARED - asked - 1)))
                m().fault = "shared memory behind what the launch has asked for";
            over = over + 1;
        }
    }
    if (m().fault) fprintf(stderr, "cuda_shim: %s\n", m().fault);
    return m().fault ? cudaErrorLaunchFailure : cudaSuccess;
}

inline void fence() {
    yield();
}
inline void meet(const char *site) {
    (void)exchange(site, 0xFFFFFFFFu, 0);
}
#endif

/* ---- streams ---- */
struct stream {
    std::vector<std::function<cudaError_t()>> waiting;
};
inline std::vector<stream *> &streams() {
    static stream first; /* the one without a name */
    static std::vector<stream *> all(1, &first);
    return all;
}
inline stream *of(stream *s) {
    return s ? s : streams()[0];
}
inline cudaError_t drain(stream *s) {
    CUSHIM_TURN;
    cudaError_t e = cudaSuccess;
    std::vector<std::function<cudaError_t()>> now;
    now.swap(of(s)->waiting);
    if (now.empty()) return e;
    open_memory(true);
    for (const std::function<cudaError_t()> &f : now)
        if (e == cudaSuccess) e = f();
    open_memory(false);
    return e;
}

template <typename J>
inline cudaError_t launch(void (*kernel)(const J), unsigned grid, unsigned threads, size_t shared, stream *s,
                          const J &job) {
    CUSHIM_TURN;
    if (!grid || !threads || threads > MOST_THREADS || shared > SHARED) return cudaErrorInvalidConfiguration;
    of(s)->waiting.push_back([=]() { return run(grid, threads, shared, [=]() { kernel(job); }); });
    return cudaSuccess;
}

template <typename T> inline uint64_t word_of(T v) {
    uint64_t w = 0;
    memcpy(&w, &v, sizeof v);
    return w;
}
template <typename T> inline T value_of(uint64_t w) {
    T v;
    memcpy(&v, &w, sizeof v);
    return v;
}
/* lane `to` of those in groups of `width`; who asks beyond its group gets its own */
template <typename T> inline T shuffle(const char *site, unsigned mask, T v, int to, int width, bool down) {
    const unsigned lane = self()->thread % WARP, group = lane / (unsigned)width * (unsigned)width;
    const unsigned at = lane - group;
    unsigned from = down ? at + (unsigned)to : (unsigned)to % (unsigned)width;
    const uint64_t *all = exchange(site, mask, word_of(v));
    from = group + (from < (unsigned)width ? from : at);
    if (!(mask >> from & 1u)) stop("a value from a thread that the mask does not name");
    return value_of<T>(all[from]);
}
inline unsigned ballot(const char *site, unsigned mask, int predicate) {
    const uint64_t *all = exchange(site, mask, predicate != 0);
    unsigned bits = 0;
    for (unsigned i = 0; i < WARP; i++)
        if ((mask >> i & 1u) && all[i]) bits |= 1u << i;
    return bits;
}
} // namespace cushim

typedef cushim::stream *cudaStream_t;

struct alignas(8) uint2 {
    unsigned x, y;
} __attribute__((may_alias));
struct alignas(16) uint4 {
    unsigned x, y, z, w;
} __attribute__((may_alias));
template <typename T> inline void __stwb(T *p, T v) {
    *p = v;
}

/* ---- what kernels see ---- */
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(n)
#define WEFT_SHARED(type, name) type *const name = (type *)(void *)cushim::self()->home->shared
#define WEFT_LAUNCH(error, kernel, grid, block, shared, stream, job)                                                   \
    ((error) = cushim::launch(kernel, grid, block, shared, stream, job))
#define threadIdx dim3(cushim::self()->thread, 0, 0)
#define blockIdx (cushim::self()->home->index)
#define blockDim (cushim::m().threads)
#define gridDim (cushim::m().grid)
#define CUSHIM_TEXT_(line) __FILE__ ":" #line
#define CUSHIM_TEXT(line) CUSHIM_TEXT_(line)
#define CUSHIM_SITE CUSHIM_TEXT(__LINE__)
#define __syncthreads() cushim::barrier(CUSHIM_SITE)
#define __syncwarp() cushim::meet(CUSHIM_SITE)
#define __shfl_sync(mask, v, from) cushim::shuffle(CUSHIM_SITE, mask, v, from, 32, false)
#define __shfl_down_sync(mask, v, ...)                                                                                 \
    cushim::shuffle(CUSHIM_SITE, mask, v, cushim_first(__VA_ARGS__), cushim_second(__VA_ARGS__), true)
#define __ballot_sync(mask, predicate) cushim::ballot(CUSHIM_SITE, mask, predicate)
inline int cushim_first(unsigned a, int = 32) {
    return (int)a;
}
inline int cushim_second(unsigned, int b = 32) {
    return b;
}

inline void __threadfence() {
    cushim::fence();
}
#ifdef CUSHIM_PTHREADS
namespace cushim {
template <typename T, typename F> inline T atomically(T *p, F change) {
    yield();
    before_write(p);
    const T was = change();
    after_read(p);
    return was;
}
} // namespace cushim
template <typename T> inline T atomicAdd(T *p, T v) {
    return cushim::atomically(p, [=]() { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); });
}
template <typename T> inline T atomicExch(T *p, T v) {
    return cushim::atomically(p, [=]() { return __atomic_exchange_n(p, v, __ATOMIC_RELAXED); });
}
template <typename T> inline T atomicCAS(T *p, T expected, T v) {
    return cushim::atomically(p, [=]() {
        T was = expected;
        __atomic_compare_exchange_n(p, &was, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        return was;
    });
}
#ifdef __SANITIZE_THREAD__
/* What the compiler calls before each access to something volatile: an atomic one. */
#define CUSHIM_VOLATILE(bytes, type)                                                                                   \
    extern "C" inline __attribute__((used)) void __tsan_volatile_read##bytes(void *p) {                                \
        (void)__atomic_load_n((type *)p, __ATOMIC_RELAXED);                                                            \
        cushim::after_read(p);                                                                                         \
    }                                                                                                                  \
    extern "C" inline __attribute__((used)) void __tsan_volatile_write##bytes(void *p) {                               \
        cushim::before_write(p);                                                                                       \
        (void)__atomic_fetch_or((type *)p, 0, __ATOMIC_RELAXED);                                                       \
    }
CUSHIM_VOLATILE(1, uint8_t)
CUSHIM_VOLATILE(2, uint16_t)
CUSHIM_VOLATILE(4, uint32_t)
CUSHIM_VOLATILE(8, uint64_t)
#endif
#else
template <typename T> inline T atomicAdd(T *p, T v) {
    cushim::yield();
    const T was = *p;
    *p = was + v;
    cushim::yield();
    return was;
}
template <typename T> inline T atomicExch(T *p, T v) {
    cushim::yield();
    const T was = *p;
    *p = v;
    cushim::yield();
    return was;
}
template <typename T> inline T atomicCAS(T *p, T expected, T v) {
    cushim::yield();
    const T was = *p;
    if (was == expected) *p = v;
    cushim::yield();
    return was;
}
#endif

/* to be compiled without contraction */
inline float __fadd_rn(float a, float b) {
    return a + b;
}
inline float __fsub_rn(float a, float b) {
    return a - b;
}
inline float __fmul_rn(float a, float b) {
    return a * b;
}
inline float __fdiv_rn(float a, float b) {
    return a / b;
}
inline float __fsqrt_rn(float a) {
    return sqrtf(a);
}
inline double __dadd_rn(double a, double b) {
    return a + b;
}
inline double __dsub_rn(double a, double b) {
    return a - b;
}
inline double __dmul_rn(double a, double b) {
    return a * b;
}
inline double __ddiv_rn(double a, double b) {
    return a / b;
}
inline double __fma_rn(double a, double b, double c) {
    return fma(a, b, c);
}
inline unsigned __float_as_uint(float v) {
    return (unsigned)cushim::word_of(v);
}
inline float __uint_as_float(unsigned v) {
    return cushim::value_of<float>(v);
}
inline long long __double_as_longlong(double v) {
    return (long long)cushim::word_of(v);
}
inline double __longlong_as_double(long long v) {
    return cushim::value_of<double>((uint64_t)v);
}
inline int __ffs(int v) {
    return __builtin_ffs(v);
}
inline int __popc(unsigned v) {
    return __builtin_popcount(v);
}

/* ---- what the host sees ---- */
inline cudaError_t cudaMalloc(void **p, size_t bytes) {
    CUSHIM_TURN;
    const size_t whole = (bytes + cushim::PAGE) / cushim::PAGE * cushim::PAGE;
    unsigned char *base =
        (unsigned char *)mmap(NULL, whole + cushim::PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return cudaErrorMemoryAllocation;
    memset(base, cushim::POISON, whole);
    mprotect(base, whole + cushim::PAGE, PROT_NONE);
    cushim::allocation a = {base, whole};
    cushim::memory().push_back(a);
    *p = base + (whole - bytes) / 256 * 256; /* what follows is out of bounds soon */
    return cudaSuccess;
}
inline cudaError_t cudaFree(void *p) {
    CUSHIM_TURN;
    std::vector<cushim::allocation> &all = cushim::memory();
    for (size_t i = 0; i < all.size(); i++)
        if ((unsigned char *)p >= all[i].base && (unsigned char *)p < all[i].base + all[i].bytes) {
            munmap(all[i].base, all[i].bytes + cushim::PAGE);
            all.erase(all.begin() + (ptrdiff_t)i);
            return cudaSuccess;
        }
    return p ? cudaErrorInvalidValue : cudaSuccess;
}
/* Pinned memory is the host's as well: poisoned, no more. */
inline cudaError_t cudaMallocHost(void **p, size_t bytes) {
    *p = malloc(bytes ? bytes : 1);
    if (!*p) return cudaErrorMemoryAllocation;
    memset(*p, cushim::POISON, bytes);
    return cudaSuccess;
}
inline cudaError_t cudaFreeHost(void *p) {
    free(p);
    return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, cudaMemcpyKind kind, cudaStream_t s) {
    CUSHIM_TURN;
    if (!n) return cudaSuccess;
    const int to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const int from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (cushim::where(to, n) != to_device || cushim::where(from, n) != from_device) return cudaErrorInvalidValue;
    cushim::of(s)->waiting.push_back([=]() {
        memcpy(to, from, n);
        cushim::done().copies++;
        return cudaSuccess;
    });
    return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t s) {
    CUSHIM_TURN;
    if (cushim::where(p, n) < 0) return cudaErrorInvalidValue;
    cushim::of(s)->waiting.push_back([=]() {
        memset(p, value, n);
        return cudaSuccess;
    });
    return cudaSuccess;
}
inline cudaError_t cudaStreamCreate(cudaStream_t *s) {
    CUSHIM_TURN;
    cushim::streams().push_back(*s = new cushim::stream);
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    return cushim::drain(s);
}
inline cudaError_t cudaDeviceSynchronize() {
    CUSHIM_TURN;
    cudaError_t e = cudaSuccess;
    for (size_t i = cushim::below(cushim::streams().size()), n = 0; n < cushim::streams().size(); n++, i++) {
        const cudaError_t own = cushim::drain(cushim::streams()[i % cushim::streams().size()]);
        if (e == cudaSuccess) e = own;
    }
    return e;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t s) {
    CUSHIM_TURN;
    const cudaError_t e = cushim::drain(s);
    std::vector<cudaStream_t> &all = cushim::streams();
    all.erase(std::find(all.begin(), all.end(), s));
    delete s;
    return e;
}
inline cudaError_t cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind kind) {
    const cudaError_t e = cudaMemcpyAsync(to, from, n, kind, NULL), waited = cudaDeviceSynchronize();
    return e == cudaSuccess ? waited : e;
}
inline cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
    return device == 0 ? cudaSuccess : cudaErrorInvalidValue;
}
inline cudaError_t cudaGetDeviceCount(int *n) {
    *n = 1;
    return cudaSuccess;
}
/* One processor: eight blocks of 256 threads at most, so that each has to go on to a second piece. */
inline cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr, int) {
    *value = 1;
    return cudaSuccess;
}
inline cudaError_t cudaGetLastError() {
    return cudaSuccess;
}
inline const char *cudaGetErrorString(cudaError_t e) {
    return e == cudaSuccess ? "no error" : "an error of the shim";
}

#endif
