/* SPDX-License-Identifier: MIT
 * cuda_clock.h: of CUDA, beside cuda_shim.h, what a benchmark asks for: events that tell the time of a made-up clock,
 * what GPU this is, and how much memory it has left. And a GPU on which things go wrong. */
#ifndef WEFT_TESTS_CUDA_CLOCK_H
#define WEFT_TESTS_CUDA_CLOCK_H

#include "cuda_shim.h"

struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem;
    int l2CacheSize, multiProcessorCount, major, minor;
};
static const cudaError_t cudaErrorNoDevice = (cudaError_t)100;

namespace cushim {
/* What a launch, a copy on the device and a memset take, in milliseconds. */
static const double LAUNCH = 1.5, COPY = 0.5, SET = 0.25;

struct gpu {
    double now;           /* of the stream */
    double stands;        /* a clock that does not: 0 */
    long calls, fails_at; /* of the runtime; the one that fails, negative: none */
    bool late;            /* what is enqueued fails when it is waited for */
    long fetches, spoilt; /* copies to the host; the one of which a bit is another, negative: none */
    bool none;            /* no GPU at all */
    size_t memory;        /* bytes of the device */
};
inline gpu &it() {
    static gpu one = {0, 1, 0, -1, false, 0, -1, false, (size_t)1 << 30};
    return one;
}
/* The time of what is enqueued, and whether it fails after all. */
inline cudaError_t enqueued(cudaError_t e, stream *s, double takes, bool fails) {
    of(s)->waiting.push_back([=]() {
        it().now += takes;
        return fails ? cudaErrorLaunchFailure : cudaSuccess;
    });
    return e;
}
inline bool fails() {
    return it().calls++ == it().fails_at;
}
inline size_t left() {
    size_t used = 0;
    for (const allocation &a : memory()) used += a.bytes;
    return used < it().memory ? it().memory - used : 0;
}
struct event {
    stream *on;
    double at;
};
} // namespace cushim

typedef cushim::event *cudaEvent_t;

/* A call of the runtime, and one that enqueues. */
#define CUSHIM_CALL(call) (cushim::fails() ? cudaErrorLaunchFailure : (call))
#define CUSHIM_ENQUEUE(call, s, takes)                                                                                 \
    (cushim::fails() ? (cushim::it().late ? cushim::enqueued(cudaSuccess, s, takes, true) : cudaErrorLaunchFailure)    \
                     : cushim::enqueued(call, s, takes, false))

inline cudaError_t cushim_copy(void *to, const void *from, size_t n, cudaMemcpyKind kind, cudaStream_t s) {
    const cudaError_t e = cudaMemcpyAsync(to, from, n, kind, s);
    if (e == cudaSuccess && kind == cudaMemcpyDeviceToHost && cushim::it().fetches++ == cushim::it().spoilt) {
        unsigned char *const byte = (unsigned char *)to + cushim::below(n);
        const unsigned char bit = (unsigned char)(1u << cushim::below(8));
        s->waiting.push_back([=]() {
            *byte ^= bit;
            return cudaSuccess;
        });
    }
    return e;
}
inline cudaError_t cushim_malloc(void **p, size_t bytes) {
    return bytes <= cushim::left() ? cudaMalloc(p, bytes) : cudaErrorMemoryAllocation;
}
inline cudaError_t cushim_properties(cudaDeviceProp *p) {
    const cudaDeviceProp made_up = {"a made-up GPU", (size_t)1 << 30, 6000, 1, 7, 5};
    *p = made_up;
    return cudaSuccess;
}
inline cudaError_t cushim_number(int *to, int value) {
    *to = value;
    return cudaSuccess;
}
inline cudaError_t cushim_memory(size_t *left, size_t *all) {
    *left = cushim::left();
    *all = cushim::it().memory;
    return cudaSuccess;
}
inline cudaError_t cushim_event(cudaEvent_t *e) {
    *e = new cushim::event();
    return cudaSuccess;
}
inline cudaError_t cushim_event_over(cudaEvent_t e) {
    delete e;
    return cudaSuccess;
}
inline cudaError_t cushim_record(cudaEvent_t e, cudaStream_t s) {
    e->on = s;
    cushim::of(s)->waiting.push_back([=]() {
        e->at = cushim::it().now;
        return cudaSuccess;
    });
    return cudaSuccess;
}
inline cudaError_t cushim_elapsed(float *ms, cudaEvent_t from, cudaEvent_t to) {
    *ms = (float)((to->at - from->at) * cushim::it().stands);
    return cudaSuccess;
}

#undef WEFT_LAUNCH
#define WEFT_LAUNCH(error, kernel, grid, block, shared, stream, job)                                                   \
    ((error) = CUSHIM_ENQUEUE(cushim::launch(kernel, grid, block, shared, stream, job), stream, cushim::LAUNCH))
#define cudaMemcpyAsync(to, from, n, kind, s)                                                                          \
    CUSHIM_ENQUEUE(cushim_copy(to, from, n, kind, s), s, (kind) == cudaMemcpyDeviceToDevice ? cushim::COPY : 3.0)
#define cudaMemsetAsync(p, v, n, s) CUSHIM_ENQUEUE(cudaMemsetAsync(p, v, n, s), s, cushim::SET)
#define cudaMalloc(p, n) CUSHIM_CALL(cushim_malloc(p, n))
#define cudaFree(p) CUSHIM_CALL(cudaFree(p))
#define cudaStreamCreate(s) CUSHIM_CALL(cudaStreamCreate(s))
#define cudaStreamDestroy(s) CUSHIM_CALL(cudaStreamDestroy(s))
#define cudaStreamSynchronize(s) CUSHIM_CALL(cudaStreamSynchronize(s))
#define cudaGetDevice(d) CUSHIM_CALL(cudaGetDevice(d))
#define cudaGetDeviceCount(n)                                                                                          \
    (cushim::it().none ? cushim_number(n, 0), cudaErrorNoDevice : CUSHIM_CALL(cudaGetDeviceCount(n)))
#define cudaDeviceGetAttribute(v, a, d) CUSHIM_CALL(cudaDeviceGetAttribute(v, a, d))
#define cudaGetDeviceProperties(p, d) CUSHIM_CALL(cushim_properties(p))
#define cudaDriverGetVersion(v) CUSHIM_CALL(cushim_number(v, 13010))
#define cudaRuntimeGetVersion(v) CUSHIM_CALL(cushim_number(v, 12040))
#define cudaMemGetInfo(left, all) CUSHIM_CALL(cushim_memory(left, all))
#define cudaEventCreate(e) CUSHIM_CALL(cushim_event(e))
#define cudaEventDestroy(e) CUSHIM_CALL(cushim_event_over(e))
#define cudaEventRecord(e, s) CUSHIM_CALL(cushim_record(e, s))
#define cudaEventSynchronize(e) CUSHIM_CALL(cushim::drain((e)->on))
#define cudaEventElapsedTime(ms, from, to) CUSHIM_CALL(cushim_elapsed(ms, from, to))

#endif
