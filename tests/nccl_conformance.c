/* SPDX-License-Identifier: MIT
 * weft_nccl.h, twice. Linked with NCCL and CUDA: an id is made, and without a GPU opening fails with a reason and
 * gives all back; with one, sums of a single rank are made on it. With -DFAKE, beside the doubles below instead:
 * threads as ranks, whose sums go through all steps (NCCL still at it, the stream still at it), from "device" memory
 * and from memory that needs a copy; failures; aborts. Doubles show that the header keeps its own word, not that NCCL
 * does. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "transports/weft_nccl.h"
#include "transports/weft_threads.h"

#include <stdio.h>

static unsigned long long checks;

static void need(int right, const char *what, int line) {
    __atomic_fetch_add(&checks, 1, __ATOMIC_RELAXED);
    if (right) return;
    fprintf(stderr, "nccl_conformance, line %d: %s\n", line, what);
    exit(1);
}
#define NEED(condition) need((condition) != 0, #condition, __LINE__)

enum { MOST = 4, COUNT = 5000 };

#ifdef FAKE
/* ---- the doubles ---- */

struct op {
    enum { COPY, CLEAR, SUM, EVENT } kind;
    const void *from;
    void *to;
    size_t bytes;
    struct ncclComm *comm;
    double scalar;
    ncclDataType_t type;
    int joined;
};

struct ncclComm {
    int rank, size, busy;
    unsigned number; /* of sums that it has joined */
    double scalar;
    struct CUstream_st *stream;
    struct op next; /* comes onto the stream when `busy` has come to 0 */
};

struct CUstream_st {
    struct op op[16];
    int ops, slow, aborted; /* what is there stands still, but may be writing until it is synchronised */
};

struct CUevent_st {
    struct CUstream_st *stream;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *part[MOST][2];
static unsigned joined[MOST];
static int aborted, no_gpu, fail_copies; /* fail_copies: the next so many */
static int copies, clears, sums, aborts;
static struct {
    char *at;
    size_t bytes;
} block[256];
static int blocks;

cudaError_t cudaSetDevice(int device) { return device || no_gpu ? cudaErrorNoDevice : cudaSuccess; }
const char *cudaGetErrorString(cudaError_t e) { return e == cudaErrorNoDevice ? "no device" : "an error of CUDA"; }
cudaError_t cudaGetLastError(void) { return cudaSuccess; }

cudaError_t cudaMalloc(void **p, size_t bytes) {
    *p = malloc(bytes);
    pthread_mutex_lock(&lock);
    NEED(*p && blocks < 256);
    block[blocks].at = (char *)*p;
    block[blocks++].bytes = bytes;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p) {
    int i;
    pthread_mutex_lock(&lock);
    for (i = 0; i < blocks && block[i].at != p; i++) continue;
    NEED(i < blocks);
    block[i] = block[--blocks];
    pthread_mutex_unlock(&lock);
    free(p);
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p) {
    int i;
    memset(a, 0, sizeof *a);
    a->type = cudaMemoryTypeUnregistered;
    pthread_mutex_lock(&lock);
    for (i = 0; i < blocks; i++)
        if ((const char *)p >= block[i].at && (const char *)p < block[i].at + block[i].bytes) {
            a->type = cudaMemoryTypeDevice;
            a->devicePointer = (void *)(uintptr_t)p;
        }
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

static struct op *queue(cudaStream_t s, int kind) {
    struct op *o;
    NEED(s && s->ops < 16);
    o = &s->op[s->ops++];
    memset(o, 0, sizeof *o);
    o->kind = kind;
    s->slow = 3;
    return o;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t s) {
    struct op *o;
    pthread_mutex_lock(&lock);
    copies++;
    if (fail_copies && fail_copies--) {
        pthread_mutex_unlock(&lock);
        return cudaErrorInvalidValue;
    }
    pthread_mutex_unlock(&lock);
    NEED(kind == cudaMemcpyDefault);
    o = queue(s, COPY);
    o->from = from;
    o->to = to;
    o->bytes = bytes;
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int v, size_t bytes, cudaStream_t s) {
    struct op *o = queue(s, CLEAR);
    NEED(v == 0);
    __atomic_fetch_add(&clears, 1, __ATOMIC_RELAXED);
    o->to = to;
    o->bytes = bytes;
    return cudaSuccess;
}

/* One step of a stream. 0: its first operation cannot go on, or there is none. */
static int step(cudaStream_t s) {
    struct op *o = s->op;
    int r;
    size_t i;
    if (!s->ops) return 0;
    if (s->slow && s->slow--) return 0;
    if (o->kind == COPY) memcpy(o->to, o->from, o->bytes);
    if (o->kind == CLEAR) memset(o->to, 0, o->bytes);
    if (o->kind == SUM) {
        struct ncclComm *c = o->comm;
        pthread_mutex_lock(&lock);
        if (!o->joined) {
            void **mine = &part[c->rank][c->number & 1];
            o->joined = 1;
            free(*mine);
            *mine = malloc(o->bytes + 1);
            for (i = 0; i < o->bytes / (o->type == ncclDouble ? 8u : 4u); i++)
                if (o->type == ncclDouble) ((double *)*mine)[i] = o->scalar * ((const double *)o->from)[i];
                else ((float *)*mine)[i] = (float)o->scalar * ((const float *)o->from)[i];
            joined[c->rank] = ++c->number;
        }
        for (r = 0; r < c->size && (int)(joined[r] - c->number) >= 0; r++) continue;
        if (r < c->size) {
            pthread_mutex_unlock(&lock);
            return 0;
        }
        for (i = 0; i < o->bytes / (o->type == ncclDouble ? 8u : 4u); i++) {
            double d = 0;
            float f = 0;
            for (r = 0; r < c->size; r++)
                if (o->type == ncclDouble) d += ((double *)part[r][(c->number - 1) & 1])[i];
                else f += ((float *)part[r][(c->number - 1) & 1])[i];
            if (o->type == ncclDouble) ((double *)o->to)[i] = d;
            else ((float *)o->to)[i] = f;
        }
        sums++;
        pthread_mutex_unlock(&lock);
    }
    memmove(s->op, s->op + 1, (size_t)--s->ops * sizeof *s->op);
    s->slow = 3;
    return 1;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) {
    NEED(flags == cudaStreamNonBlocking);
    *s = (cudaStream_t)calloc(1, sizeof **s);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    NEED(!s->aborted && !s->ops);
    free(s);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    if (s->aborted) s->ops = s->aborted = 0;
    for (s->slow = 0; step(s);) s->slow = 0;
    NEED(s->ops == 0); /* else this would not come back */
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags) {
    NEED(flags == cudaEventDisableTiming);
    *e = (cudaEvent_t)calloc(1, sizeof **e);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    free(e);
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    e->stream = s;
    queue(s, EVENT);
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
    step(e->stream);
    return e->stream->ops ? cudaErrorNotReady : cudaSuccess;
}

const char *ncclGetErrorString(ncclResult_t r) {
    return r == ncclRemoteError ? "another rank failed" : "an error of NCCL";
}
ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    memset(id, 7, sizeof *id);
    return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t *c, int size, ncclUniqueId id, int rank, ncclConfig_t *config) {
    NEED(id.internal[5] == 7 && config->blocking == 0);
    *c = (ncclComm_t)calloc(1, sizeof **c);
    (*c)->rank = rank;
    (*c)->size = size;
    (*c)->busy = 3;
    return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *state) {
    *state = c->busy ? ncclInProgress : __atomic_load_n(&aborted, __ATOMIC_SEQ_CST) ? ncclRemoteError : ncclSuccess;
    if (c->busy && !--c->busy && c->next.comm) {
        *queue(c->stream, SUM) = c->next;
        c->next.comm = NULL;
    }
    return ncclSuccess;
}
ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t *op, void *scalar, ncclDataType_t type, ncclScalarResidence_t where,
                                      ncclComm_t c) {
    NEED(!c->busy && where == ncclScalarHostImmediate);
    c->scalar = type == ncclDouble ? *(double *)scalar : (double)*(float *)scalar;
    *op = (ncclRedOp_t)17;
    return ncclSuccess;
}
ncclResult_t ncclRedOpDestroy(ncclRedOp_t op, ncclComm_t c) {
    NEED(op == (ncclRedOp_t)17 && c);
    return ncclSuccess;
}
ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t c,
                           cudaStream_t s) {
    struct op *o = &c->next;
    NEED(op == (ncclRedOp_t)17 && !o->comm);
    memset(o, 0, sizeof *o);
    o->kind = SUM;
    o->from = from;
    o->to = to;
    o->bytes = count * (type == ncclDouble ? 8 : 4);
    o->type = type;
    o->comm = c;
    o->scalar = c->scalar;
    c->stream = s;
    c->busy = 3;
    return ncclInProgress;
}
ncclResult_t ncclCommAbort(ncclComm_t c) {
    if (c->stream && (c->next.comm || c->stream->ops)) {
        __atomic_store_n(&aborted, 1, __ATOMIC_SEQ_CST);
        c->stream->aborted = 1;
    }
    __atomic_fetch_add(&aborts, 1, __ATOMIC_RELAXED);
    free(c);
    return ncclSuccess;
}
#endif

/* ---- what is tested ---- */

static weft_status sum(const weft_transport *net, double weight, const void *in, void *out, size_t n, weft_dtype t) {
    weft_request q;
    weft_status s;
    memset(&q, 0, sizeof q);
    q.bytes = UINT64_MAX;
    s = net->all_reduce(net->ctx, weight, in, out, n, t, &q);
    if (s != WEFT_OK) return s;
    while ((s = net->test(net->ctx, &q)) == WEFT_AGAIN) net->wait(net->ctx, UINT64_MAX);
    NEED(q.bytes == UINT64_MAX);
    return s;
}

/* Whole numbers, weights, the last rank with NaN and a weight of 0; from device or main memory, in place or not. */
static void sums_of(const weft_transport *net) {
    int way;
    size_t i, n;
    for (n = 0; n <= COUNT; n = n * 9 + 1)
        for (way = 0; way < 16; way++) {
            const weft_dtype t = way & 1 ? WEFT_F64 : WEFT_F32;
            const size_t each = way & 1 ? 8 : 4, bytes = n * each + 1;
            const int on_device = way & 2, in_place = way & 4, last = way & 8 && net->rank == net->size - 1;
            double *main = (double *)calloc(1, bytes + 8), *after = (double *)calloc(1, bytes + 8);
            void *in = main, *out = after;
            uint32_t r;
            NEED(main && after);
            for (i = 0; i < n; i++)
                if (way & 1) main[i] = (double)(i % 50 + net->rank);
                else ((float *)main)[i] = (float)(i % 50 + net->rank);
            if (last) memset(main, 0xFF, n * each);
            if (on_device) {
                NEED(cudaMalloc(&in, bytes) == cudaSuccess && cudaMalloc(&out, bytes) == cudaSuccess);
#ifdef FAKE
                memcpy(in, main, n * each);
#else
                NEED(cudaMemcpy(in, main, n * each, cudaMemcpyDefault) == cudaSuccess);
#endif
            }
            NEED(sum(net, last ? 0 : 1.0 + net->rank, in, in_place ? in : out, n, t) == WEFT_OK);
            if (on_device) {
#ifdef FAKE
                memcpy(after, in_place ? in : out, n * each);
#else
                NEED(cudaMemcpy(after, in_place ? in : out, n * each, cudaMemcpyDefault) == cudaSuccess);
#endif
                cudaFree(in);
                cudaFree(out);
            } else if (in_place)
                memcpy(after, in, n * each);
            for (i = 0; i < n; i++) {
                double right = 0;
                for (r = 0; r < net->size - (way & 8 ? 1 : 0); r++) right += (1.0 + r) * (double)(i % 50 + r);
                if ((way & 1 ? after[i] : (double)((float *)after)[i]) != right) NEED(!"the sum is right");
            }
            free(main);
            free(after);
        }
}

#ifdef FAKE
static weft_threads_team team;
static pthread_barrier_t together;

static void object_sum(weft_transport *net) {
    static const double weights[MOST] = {1, 2, 0.5, 1};
    float x[3000];
    weft_tensor one;
    weft_collective_desc d;
    weft_collective *c;
    weft_status s;
    size_t bytes, i;
    void *p;
    for (i = 0; i < 3000; i++) x[i] = (float)(i % 97 + net->rank);
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    one.data = x;
    one.count = 3000;
    one.dtype = WEFT_F32;
    d.tensors.tensor = &one;
    d.tensors.count = 1;
    d.transport = net;
    d.host_collectives = 1;
    bytes = weft_collective_memory(&d, NULL);
    p = malloc(bytes);
    NEED(p && weft_collective_init(&c, &d, p, bytes, NULL) == WEFT_OK);
    for (s = weft_collective_begin(c, WEFT_OP_ALL_REDUCE, weights, 0); s == WEFT_AGAIN; s = weft_collective_poll(c))
        sched_yield();
    NEED(s == WEFT_OK);
    for (i = 0; i < 3000; i++) {
        double right = 0;
        uint32_t r;
        for (r = 0; r < net->size; r++) right += weights[r] * (double)(i % 97 + r);
        if ((double)x[i] != right) NEED(!"the object's sum is right");
    }
    pthread_barrier_wait(&together);
    weft_collective_close(c);
    free(p);
}

static void *rank_body(void *arg) {
    weft_transport messages, net;
    weft_nccl nccl;
    weft_selftest *st = (weft_selftest *)calloc(1, sizeof *st);
    weft_selftest_report report;
    weft_request q;
    weft_status s;
    ncclUniqueId id;
    float x[4] = {1, 2, 3, 4};
    weft_threads_transport(&team, (uint32_t)(uintptr_t)arg, &messages);
    ncclGetUniqueId(&id);
    NEED(weft_nccl_transport(&nccl, &net, &messages, &id, 0) == WEFT_OK);
    while ((s = weft_transport_selftest(&net, st, 0, &report)) == WEFT_AGAIN) sched_yield();
    if (s != WEFT_OK) fprintf(stderr, "%s\n", report.text);
    NEED(s == WEFT_OK);
    free(st);
    sums_of(&net);
    object_sum(&net);
    NEED(net.all_reduce(net.ctx, 1, x, x, 4, WEFT_BF16, &q) == WEFT_ERR_UNSUPPORTED);
    pthread_barrier_wait(&together);
    if (net.rank == 0) fail_copies = 1;
    pthread_barrier_wait(&together);
    if (net.rank == 0) { /* a failure on its way in: nothing has begun */
        NEED(sum(&net, 1, x, x, 4, WEFT_F32) == WEFT_ERR_TRANSPORT && nccl.why[0] && !nccl.request && nccl.comm);
    }
    pthread_barrier_wait(&together);
    sums_of(&net);
    pthread_barrier_wait(&together);
    /* one does not come: the others' sums are cancelled, or find that it has given up */
    memset(&q, 0, sizeof q);
    if (net.rank) {
        NEED(net.all_reduce(net.ctx, 1, x, x, 4, WEFT_F32, &q) == WEFT_OK);
        NEED(net.all_reduce(net.ctx, 1, x, x, 4, WEFT_F32, &q) == WEFT_ERR_TRANSPORT); /* one at a time */
    }
    if (net.rank == 1) net.cancel(net.ctx, &q);
    if (net.rank > 1) {
        while ((s = net.test(net.ctx, &q)) == WEFT_AGAIN) sched_yield();
        NEED(s == WEFT_ERR_PEER_LOST);
    }
    if (net.rank) {
        NEED(!nccl.comm && x[0] == 1.0f);
        NEED(net.all_reduce(net.ctx, 1, x, x, 4, WEFT_F32, &q) == WEFT_ERR_TRANSPORT);
    }
    pthread_barrier_wait(&together);
    weft_nccl_close(&nccl);
    return NULL;
}
#endif

int main(void) {
#ifdef FAKE
    pthread_t id[MOST];
    weft_transport messages, net;
    weft_nccl nccl;
    ncclUniqueId unique;
    uintptr_t size, r;
    for (size = 2; size <= MOST; size++) {
        memset(joined, 0, sizeof joined);
        aborted = 0;
        NEED(weft_threads_init(&team, (uint32_t)size) == WEFT_OK);
        NEED(pthread_barrier_init(&together, NULL, (unsigned)size) == 0);
        for (r = 0; r < size; r++) NEED(pthread_create(&id[r], NULL, rank_body, (void *)r) == 0);
        for (r = 0; r < size; r++) NEED(pthread_join(id[r], NULL) == 0);
        weft_threads_transport(&team, 0, &messages);
        no_gpu = 1;
        ncclGetUniqueId(&unique);
        NEED(weft_nccl_transport(&nccl, &net, &messages, &unique, 0) == WEFT_ERR_TRANSPORT);
        NEED(strstr(nccl.why, "no device") && !nccl.comm && !nccl.stream && !nccl.over);
        no_gpu = 0;
        pthread_barrier_destroy(&together);
        weft_threads_free(&team);
    }
    for (r = 0; r < MOST; r++) {
        free(part[r][0]);
        free(part[r][1]);
    }
    NEED(blocks == 0 && copies && clears && sums && aborts == 2 + 3 + 4);
    printf("doubles: %llu checks\n", checks);
#else
    weft_threads_team team;
    weft_transport messages, net;
    weft_nccl nccl;
    ncclUniqueId id;
    weft_status s;
    int version = 0, gpus = 0;
    memset(&net, 0, sizeof net);
    NEED(ncclGetVersion(&version) == ncclSuccess && ncclGetUniqueId(&id) == ncclSuccess);
    NEED(weft_threads_init(&team, 1) == WEFT_OK);
    weft_threads_transport(&team, 0, &messages);
    if (cudaGetDeviceCount(&gpus) != cudaSuccess) gpus = 0;
    s = weft_nccl_transport(&nccl, &net, &messages, &id, 0);
    if (gpus) {
        if (s != WEFT_OK) fprintf(stderr, "%s\n", nccl.why);
        NEED(s == WEFT_OK);
        sums_of(&net);
        weft_nccl_close(&nccl);
    } else
        NEED(s == WEFT_ERR_TRANSPORT && nccl.why[0] && !nccl.comm && !nccl.stream);
    weft_threads_free(&team);
    printf("NCCL %d, %d GPUs: %llu checks%s%s\n", version, gpus, checks, gpus ? "" : "; opening says: ",
           gpus ? "" : nccl.why);
#endif
    return 0;
}
