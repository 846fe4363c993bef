/* SPDX-License-Identifier: MIT
 * cuda_events.h: of CUDA, beside cuda_shim.h: events, what a pointer points to, and a GPU that fails. An event that is
 * asked about may come to pass, or not yet, as is drawn. */
#ifndef WEFT_TESTS_CUDA_EVENTS_H
#define WEFT_TESTS_CUDA_EVENTS_H

#include "cuda_shim.h"

enum { cudaEventDisableTiming = 2, cudaStreamNonBlocking = 1 };
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice };
struct cudaPointerAttributes {
    cudaMemoryType type;
};
static const cudaError_t cudaErrorNotReady = (cudaError_t)600;

namespace cushim {
struct event {
    stream *on;
    unsigned recorded, over;
};
/* after so many more synchronisations all fail; negative: never */
inline int &luck() {
    static int left = -1;
    return left;
}
inline cudaError_t synchronize(stream *s) {
    CUSHIM_TURN;
    const cudaError_t e = drain(s);
    if (luck() > 0) luck()--;
    return luck() ? e : cudaErrorLaunchFailure;
}
} // namespace cushim

typedef cushim::event *cudaEvent_t;

inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) {
    *e = new cushim::event();
    return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t e) {
    delete e;
    return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    CUSHIM_TURN;
    const unsigned now = ++e->recorded;
    e->on = s;
    cushim::of(s)->waiting.push_back([=]() {
        e->over = now;
        return cudaSuccess;
    });
    return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    CUSHIM_TURN;
    return e->over == e->recorded ? cudaSuccess : cushim::drain(e->on);
}
inline cudaError_t cudaEventQuery(cudaEvent_t e) {
    CUSHIM_TURN;
    if (e->over != e->recorded && cushim::below(3)) return cudaErrorNotReady;
    return cudaEventSynchronize(e);
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) {
    return cudaStreamCreate(s);
}
inline cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p) {
    CUSHIM_TURN;
    a->type = cushim::where(p, 1) > 0 ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
    return cudaSuccess;
}
#define cudaStreamSynchronize(s) cushim::synchronize(s)

#endif
