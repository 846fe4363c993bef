/* SPDX-License-Identifier: MIT
 * Verbs on device memory: in a job whose workers have their tensors on a GPU or not, each in its own way, all end with
 * the bits of a job without GPUs. Compiled by a C++ compiler, kernels run on the CPU (cuda_shim.h), where the host cannot
 * touch device memory, and sees nothing that it has not waited for; compiled by nvcc (make cuda-test), on the GPU, or
 * the status is 77 where there is none. */
#define WEFT_CUDA
#ifndef __CUDACC__
#define WEFT_CUDA_RUNTIME "cuda_events.h"
#endif
#define GRAWA_IMPLEMENTATION
#define DSGD_AAU_IMPLEMENTATION
#define HPSGD_IMPLEMENTATION
#define SUBSPACE_IMPLEMENTATION
#define SADDLE_IMPLEMENTATION
#include "../grawa.h"
#include "../dsgd_aau.h"
#include "../hpsgd.h"
#include "../subspace.h"
#include "../saddle.h"
#include "transports/weft_sim.h"
#include "transports/weft_staged.h"

#include <check.h>
#include <stdarg.h>
#include <vector>

#define OK(call) ck_assert_int_eq((int)(call), 0)

/* The test's own waiting, which never fails. */
static cudaError_t wait_for(cudaStream_t s) {
#ifdef __CUDACC__
    return cudaStreamSynchronize(s);
#else
    return cushim::drain(s);
#endif
}

/* Of many cases each run has some: those with one seed every third, with the address sanitizer, to which fibers are
 * slow, every thirtieth; with three seeds all are run. Without a seed: all of them. */
static bool mine(void) {
    static unsigned number;
    const char *seed = getenv("CUSHIM_SEED");
#ifdef __SANITIZE_ADDRESS__
    const unsigned of = 30;
#else
    const unsigned of = seed ? 3 : 1;
#endif
    return (number++ + (seed ? (unsigned)atoi(seed) : 0)) % of == 0;
}

enum { MOST = 5, STEPS = 9 };

/* Tensors of one worker, wherever they are; the host works on `host`. */
struct tensors {
    std::vector<weft_tensor> view;
    std::vector<std::vector<unsigned char>> host;
    bool far;

    void open(const std::vector<size_t> &count, weft_dtype dtype, bool on_device) {
        far = on_device;
        host.resize(count.size());
        view.resize(count.size());
        for (size_t i = 0; i < count.size(); i++) {
            host[i].assign(count[i] * weft_dtype_bytes(dtype), 0);
            view[i].count = count[i];
            view[i].dtype = dtype;
            view[i].data = host[i].data();
            if (far) OK(cudaMalloc(&view[i].data, host[i].size() + 1));
        }
    }
    void close() {
        for (size_t i = 0; far && i < view.size(); i++) OK(cudaFree(view[i].data));
    }
    void put() {
        for (size_t i = 0; far && i < view.size(); i++)
            OK(cudaMemcpy(view[i].data, host[i].data(), host[i].size(), cudaMemcpyHostToDevice));
    }
    void get() {
        for (size_t i = 0; far && i < view.size(); i++)
            OK(cudaMemcpy(host[i].data(), view[i].data, host[i].size(), cudaMemcpyDeviceToHost));
    }
    weft_tensors list() const {
        return {view.data(), view.size()};
    }
};

static double value(const weft_tensor &t, const unsigned char *p, size_t i) {
    static const weft_kernels *const k = weft_kernels_select(WEFT_ISA_SERIAL, 0); /* (asking again is slow) */
    float f;
    uint16_t h;
    double d;
    if (t.dtype == WEFT_F64) return memcpy(&d, p + 8 * i, 8), d;
    if (t.dtype == WEFT_F32) return memcpy(&f, p + 4 * i, 4), (double)f;
    memcpy(&h, p + 2 * i, 2);
    (t.dtype == WEFT_BF16 ? k->bf16_to_f32 : k->f16_to_f32)(1, &h, &f);
    return (double)f;
}

static void set(const weft_tensor &t, unsigned char *p, size_t i, double v) {
    static const weft_kernels *const k = weft_kernels_select(WEFT_ISA_SERIAL, 0); /* (asking again is slow) */
    const float f = (float)v;
    uint16_t h;
    if (t.dtype == WEFT_F64) memcpy(p + 8 * i, &v, 8);
    if (t.dtype == WEFT_F32) memcpy(p + 4 * i, &f, 4);
    if (weft_dtype_bytes(t.dtype) != 2) return;
    (t.dtype == WEFT_BF16 ? k->f32_to_bf16 : k->f32_to_f16)(1, &f, &h);
    memcpy(p + 2 * i, &h, 2);
}

/* In [-1, 1). */
static double noise(uint64_t a, uint64_t b, uint64_t c) {
    return (double)(weft_mix(a * 1000003 + b * 101 + c) >> 12) * (1.0 / 2251799813685248.0) - 1.0;
}

struct device {
    weft_cuda cuda;
    cudaStream_t stream;
    bool open;
    void lend(size_t bytes) {
        memset(&cuda, 0, sizeof cuda);
        cuda.struct_size = sizeof cuda;
        OK(cudaStreamCreate(&stream));
        open = true;
        cuda.stream = (void *)stream;
        if (bytes) OK(cudaMalloc(&cuda.memory, bytes));
        cuda.bytes = bytes;
    }
    void close() {
        if (!open) return;
        OK(wait_for(stream));
        OK(cudaStreamDestroy(stream));
        if (cuda.memory) OK(cudaFree(cuda.memory));
        open = false;
    }
};

struct worker {
    uint32_t rank;
    tensors params, grads;
    device gpu;
    weft_transport inner, net;
    weft_staged staged;
    grawa *g;
    weft_collective *c;
    dsgd_aau *a;
    hpsgd *h;
    subspace *b;
    saddle *x;
    std::vector<unsigned char> memory;
    weft_status s;
};

/* Memory for an object, here and, if `far`, on the device. `memory`: X_memory of the descriptor. */
template <typename D, typename M> static void provide(worker *x, D *d, bool far, M memory) {
    weft_memory_report report;
    if (far) {
        x->gpu.lend(0);
        d->cuda = &x->gpu.cuda;
    }
    x->memory.assign(memory(d, &report), 0xA5);
    if (!far) {
        ck_assert_uint_eq(report.device_bytes, 0);
        return;
    }
    ck_assert_uint_gt(report.device_bytes, 0);
    x->gpu.close();
    x->gpu.lend(report.device_bytes);
}

struct job {
    weft_sim sim;
    uint32_t size;
    worker w[MOST];

    /* far: a bit for each worker with a GPU. pieces: of weft_staged.h */
    void open(uint32_t n, unsigned far, const std::vector<size_t> &count, weft_dtype dtype, size_t pieces) {
        weft_sim_desc d;
        memset(&d, 0, sizeof d);
        d.seed = 5 + n;
        d.size = size = n;
        d.mode = WEFT_SIM_MIXED;
        d.latency_ns = 1000;
        d.jitter_ns = 400;
        OK(weft_sim_init(&sim, &d));
        for (uint32_t r = 0; r < n; r++) {
            worker *x = &w[r];
            const bool on = far >> r & 1u;
            x->rank = r;
            x->g = NULL;
            x->c = NULL;
            x->a = NULL;
            x->h = NULL;
            x->b = NULL;
            x->x = NULL;
            x->gpu.open = false;
            x->params.open(count, dtype, on);
            x->grads.open(count, dtype, on);
            weft_sim_transport(&sim, r, &x->inner);
            x->net = x->inner;
            memset(&x->staged, 0, sizeof x->staged);
            if (on) OK(weft_staged_open(&x->staged, &x->net, &x->inner, pieces));
            for (size_t t = 0; t < count.size(); t++)
                for (size_t i = 0; i < count[t]; i++)
                    set(x->params.view[t], x->params.host[t].data(), i, noise(t, i, 7));
            x->params.put();
        }
    }
    void close() {
        for (uint32_t r = 0; r < size; r++) {
            if (w[r].g) grawa_close(w[r].g);
            if (w[r].c) weft_collective_close(w[r].c);
            if (w[r].a) dsgd_aau_close(w[r].a);
            if (w[r].h) hpsgd_close(w[r].h);
            if (w[r].b) subspace_close(w[r].b);
            if (w[r].x) saddle_close(w[r].x);
            w[r].gpu.close();
            weft_staged_close(&w[r].staged);
            w[r].params.close();
            w[r].grads.close();
        }
        weft_sim_free(&sim);
    }
    /* Until no verb is in progress. */
    template <typename P> void finish(P poll) {
        for (int turns = 0;; turns++) {
            bool busy = false;
            for (uint32_t r = 0; r < size; r++) {
                if (!weft_sim_alive(&sim, r)) continue;
                if (w[r].s > 0) w[r].s = poll(&w[r]);
                busy = busy || w[r].s > 0;
                if (w[r].s == WEFT_ERR_DEVICE) return; /* the others would wait for it */
            }
            if (!busy) return;
            ck_assert_msg(turns < 200000, "it never ends");
            weft_sim_next(&sim);
        }
    }
};

/* ---- sums ---- */

static void sum(uint32_t n, unsigned far, const std::vector<size_t> &count, weft_dtype dtype, weft_algorithm a,
                weft_operation op, std::vector<std::vector<unsigned char>> *out, uint64_t *staged) {
    static job j;
    const double weight[MOST] = {0.5, -2.0, 1.0 / 3.0, 0.0, 1.0};
    j.open(n, far, count, dtype, 4096);
    for (uint32_t r = 0; r < n; r++) {
        worker *x = &j.w[r];
        weft_collective_desc d;
        weft_detail why;
        for (size_t t = 0; t < count.size(); t++)
            for (size_t i = 0; i < count[t]; i++)
                set(x->params.view[t], x->params.host[t].data(), i, noise(r + 1, t, i));
        x->params.put();
        memset(&d, 0, sizeof d);
        d.struct_size = sizeof d;
        d.tensors = x->params.list();
        d.transport = &x->net;
        d.algorithm = a;
        d.timeout_ns = 1000000000;
        provide(x, &d, far >> r & 1u, weft_collective_memory);
        OK(weft_collective_init(&x->c, &d, x->memory.data(), x->memory.size(), &why));
        x->c->reduce.chunk = 1024;
    }
    for (int round = 0; round < 2; round++) {
        for (uint32_t r = 0; r < n; r++)
            j.w[r].s = weft_collective_begin(j.w[r].c, op, op == WEFT_OP_ALL_REDUCE ? weight : NULL, n - 1);
        j.finish([](worker *x) { return weft_collective_poll(x->c); });
        for (uint32_t r = 0; r < n; r++) OK(j.w[r].s);
    }
    out->clear();
    for (uint32_t r = 0; r < n; r++) {
        if (far >> r & 1u) OK(wait_for(j.w[r].gpu.stream));
        j.w[r].params.get();
        for (const std::vector<unsigned char> &t : j.w[r].params.host) out->push_back(t);
        *staged += j.w[r].staged.staged;
    }
    j.close();
}

START_TEST(sums_have_the_bits_of_those_without) {
    static const weft_dtype types[] = {WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16};
    static const weft_operation ops[] = {WEFT_OP_ALL_REDUCE, WEFT_OP_REDUCE_SCATTER, WEFT_OP_ALL_GATHER,
                                         WEFT_OP_BROADCAST};
    const std::vector<std::vector<size_t>> counts = {{5, 0, 3}, {70, 33, 1}, {3000, 4501}};
    const weft_algorithm a = (weft_algorithm)_i;
    for (const std::vector<size_t> &count : counts)
        for (int t = 0; t < 4; t++)
            for (int o = 0; o < (a == WEFT_ALGORITHM_AUTO ? 4 : 1); o++)
                for (uint32_t n = 2; n <= 4; n++) {
                    std::vector<std::vector<unsigned char>> plain, mixed;
                    uint64_t staged = 0;
                    bool ran = false;
                    sum(n, 0, count, types[t], a, ops[o], &plain, &staged);
                    ck_assert_uint_eq(staged, 0);
                    for (unsigned far = 1; far < 1u << n; far += n < 4 ? 1 : 5) {
                        if (!mine()) continue;
                        ran = true;
                        sum(n, far, count, types[t], a, ops[o], &mixed, &staged);
                        ck_assert_uint_eq(plain.size(), mixed.size());
                        for (size_t i = 0; i < plain.size(); i++)
                            ck_assert_msg(plain[i] == mixed[i],
                                          "type %d, operation %d, %u workers, GPUs %x: tensor %u differs", t, o,
                                          (unsigned)n, far, (unsigned)i);
                    }
                    if (count[0] == 3000 && ran) ck_assert_uint_gt(staged, 0);
                }
}
END_TEST

/* ---- GRAWA ---- */

static grawa_desc kind_of(int v) {
    grawa_desc d;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.period_steps = 2;
    d.check_replicas = 1;
    d.timeout_ns = 1000000000;
    switch (v) {
    case 1: d.weighting = GRAWA_BY_LAYER; break;
    case 2:
        d.weighting = GRAWA_UNIFORM;
        d.pull = 1.0;
        break;
    case 3: d.proximal = 0.25; break;
    case 4:
        d.source = GRAWA_SOURCE_PROBE;
        d.initial = GRAWA_INITIAL_AVERAGE;
        break;
    case 5:
        d.source = GRAWA_SOURCE_STEPS;
        d.initial = GRAWA_INITIAL_COPY;
        d.proximal = 0.5;
        d.algorithm = WEFT_ALGORITHM_DIRECT;
        break;
    default: break;
    }
    return d;
}

static void begin(job *j, int v, unsigned far) {
    for (uint32_t r = 0; r < j->size; r++) {
        worker *x = &j->w[r];
        grawa_desc d = kind_of(v);
        weft_detail why;
        d.params = x->params.list();
        d.transport = &x->net;
        provide(x, &d, far >> r & 1u, [](const grawa_desc *q, weft_memory_report *m) { return grawa_memory(q, m); });
        OK(grawa_init_detail(&x->g, &d, x->memory.data(), x->memory.size(), &why));
    }
}

/* The descent of one worker; before a verb of the rule. */
static void gradient(worker *x, uint64_t step) {
    if (x->gpu.open) OK(wait_for(x->gpu.stream)); /* what the last verb has enqueued */
    x->params.get();
    for (size_t t = 0; t < x->grads.view.size(); t++)
        for (size_t i = 0; i < x->grads.view[t].count; i++)
            set(x->grads.view[t], x->grads.host[t].data(), i,
                value(x->params.view[t], x->params.host[t].data(), i) * 0.5 + noise(x->rank + 1, step, i + 1000 * t));
    x->grads.put();
}

static void descend(worker *x, uint64_t step) {
    gradient(x, step);
    for (size_t t = 0; t < x->params.view.size(); t++)
        for (size_t i = 0; i < x->params.view[t].count; i++)
            set(x->params.view[t], x->params.host[t].data(), i,
                value(x->params.view[t], x->params.host[t].data(), i) -
                    0.1 * value(x->grads.view[t], x->grads.host[t].data(), i));
    x->params.put();
}

/* One step of each worker that lives, and what comes of it. */
static void step(job *j, uint64_t number) {
    for (uint32_t r = 0; r < j->size; r++) {
        worker *x = &j->w[r];
        weft_tensors grads;
        if (!weft_sim_alive(&j->sim, r)) continue;
        descend(x, number);
        grads = x->grads.list();
        x->s = grawa_step(x->g, &grads);
    }
    j->finish([number](worker *x) {
        if (x->s != WEFT_WANT_GRADIENT) return grawa_poll(x->g);
        const weft_tensors probe = x->grads.list();
        gradient(x, number + 1000);
        return grawa_probe(x->g, &probe);
    });
}

static void keep(job *j, unsigned far, std::vector<std::vector<unsigned char>> *out) {
    for (uint32_t r = 0; r < j->size; r++) {
        if (!weft_sim_alive(&j->sim, r)) continue;
        if (far >> r & 1u) OK(wait_for(j->w[r].gpu.stream));
        j->w[r].params.get();
        for (const std::vector<unsigned char> &t : j->w[r].params.host) out->push_back(t);
    }
}

/* The state of an object, as `save`(memory, room, bytes) writes it. */
template <class F> static std::vector<unsigned char> blob_of(F save) {
    std::vector<unsigned char> blob;
    size_t bytes = 0;
    OK(save(NULL, 0, &bytes));
    blob.resize(bytes);
    OK(save(blob.data(), bytes, &bytes));
    return blob;
}

/* What a job with GPUs has kept has the bits of one without. The text says which job. */
__attribute__((format(printf, 4, 5))) static void expect_same(const std::vector<std::vector<unsigned char>> &plain,
                                                              const std::vector<std::vector<unsigned char>> &mixed,
                                                              unsigned far, const char *format, ...) {
    char which[64];
    va_list a;
    va_start(a, format);
    vsnprintf(which, sizeof which, format, a);
    va_end(a);
    ck_assert_uint_eq(plain.size(), mixed.size());
    for (size_t i = 0; i < plain.size(); i++)
        ck_assert_msg(plain[i] == mixed[i], "%s, GPUs %x: what is kept %uth differs", which, far, (unsigned)i);
}

/* What every worker has after every step. `again`: worker 0's object is made anew in the middle, from its blob, which a
 * worker of the other sort would have written as well. */
static void train(int v, uint32_t n, unsigned far, const std::vector<size_t> &count, weft_dtype dtype, bool again,
                  std::vector<std::vector<unsigned char>> *out) {
    static job j;
    j.open(n, far, count, dtype, 2048);
    begin(&j, v, far);
    out->clear();
    for (uint64_t s = 1; s <= STEPS; s++) {
        step(&j, s);
        for (uint32_t r = 0; r < n; r++) OK(j.w[r].s);
        keep(&j, far, out);
    }
    for (uint32_t r = 0; r < n; r++) {
        grawa_stats_t stats;
        grawa_stats(j.w[r].g, &stats);
        ck_assert_uint_eq(stats.rounds, STEPS / 2);
        out->push_back(
            blob_of([&](void *p, size_t room, size_t *bytes) { return grawa_save(j.w[r].g, p, room, bytes); }));
        if (!again) continue;
        grawa_close(j.w[r].g);
        j.w[r].gpu.close();
    }
    if (again) { /* all go on from what they saved */
        for (uint32_t r = 0; r < n; r++) j.w[r].g = NULL;
        begin(&j, v, far);
        for (uint32_t r = 0; r < n; r++) {
            const std::vector<unsigned char> &blob = (*out)[out->size() - n + r];
            OK(grawa_load(j.w[r].g, blob.data(), blob.size()));
        }
        for (uint64_t s = STEPS + 1; s <= STEPS + 4; s++) {
            step(&j, s);
            for (uint32_t r = 0; r < n; r++) OK(j.w[r].s);
            keep(&j, far, out);
        }
    }
    j.close();
}

START_TEST(grawa_has_the_bits_of_workers_without) {
    static const weft_dtype types[] = {WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16};
    const std::vector<std::vector<size_t>> counts = {{5, 3}, {700, 33, 300}};
    for (const std::vector<size_t> &count : counts)
        for (int t = 0; t < 4; t++) {
            std::vector<std::vector<unsigned char>> plain, mixed;
            const bool again = t % 2 == 0;
            train(_i, 3, 0, count, types[t], again, &plain);
            for (unsigned far = 1; far < 8; far += 1 + (t > 0)) {
                if (!mine()) continue;
                train(_i, 3, far, count, types[t], again, &mixed);
                expect_same(plain, mixed, far, "type %d", t);
            }
        }
}
END_TEST

/* ---- DSGD-AAU ---- */

/* Of two workers each averaging is between both, whenever it comes; the second founds nothing, but takes over the
 * first one's parameters, if `joins`. */
static void meet(unsigned far, const std::vector<size_t> &count, weft_dtype dtype, dsgd_aau_wire wire, bool joins,
                 std::vector<std::vector<unsigned char>> *out) {
    static job j;
    static unsigned char room[WEFT_GRAPH_BYTES(2, 1)];
    weft_graph chain;
    OK(weft_graph_chain(&chain, 2, room, sizeof room));
    j.open(2, far, count, dtype, 2048);
    out->clear();
    for (uint32_t r = 0; r < 2; r++) {
        worker *x = &j.w[r];
        dsgd_aau_desc d;
        weft_detail why;
        memset(&d, 0, sizeof d);
        d.struct_size = sizeof d;
        d.params = x->params.list();
        d.transport = &x->net;
        d.graph = &chain;
        d.wire = wire;
        d.piece_bytes = 1024;
        d.join = joins && r ? DSGD_AAU_JOIN : DSGD_AAU_FOUND;
        if (d.join) {
            for (std::vector<unsigned char> &t : x->params.host) std::fill(t.begin(), t.end(), 0);
            x->params.put();
        }
        provide(x, &d, far >> r & 1u,
                [](const dsgd_aau_desc *q, weft_memory_report *m) { return dsgd_aau_memory(q, m); });
        OK(dsgd_aau_init_detail(&x->a, &d, x->memory.data(), x->memory.size(), &why));
        x->s = dsgd_aau_start(x->a);
    }
    for (uint64_t s = 1; s <= STEPS; s++) {
        descend(&j.w[0], s);
        OK(j.w[0].s);
        j.w[0].s = dsgd_aau_step(j.w[0].a);
        for (int turns = 0; j.w[1].s == WEFT_AGAIN; turns++) { /* who averages gives its parameters away */
            ck_assert_msg(turns < 20000, "nobody is let in");
            weft_sim_next(&j.sim);
            j.w[0].s = j.w[0].s == WEFT_OK ? dsgd_aau_step(j.w[0].a) : dsgd_aau_poll(j.w[0].a);
            j.w[1].s = dsgd_aau_poll(j.w[1].a);
        }
        OK(j.w[1].s);
        if (j.w[0].s == WEFT_OK) j.w[0].s = dsgd_aau_step(j.w[0].a);
        descend(&j.w[1], s);
        j.w[1].s = dsgd_aau_step(j.w[1].a);
        j.finish([](worker *x) { return dsgd_aau_poll(x->a); });
        for (uint32_t r = 0; r < 2; r++) OK(j.w[r].s);
        keep(&j, far, out);
    }
    j.close();
}

/* All types, as they are on the wire; and f32 as bf16. */
static const struct {
    weft_dtype type;
    dsgd_aau_wire wire;
} ways[] = {{WEFT_F32, DSGD_AAU_WIRE_OWN},
            {WEFT_F64, DSGD_AAU_WIRE_OWN},
            {WEFT_BF16, DSGD_AAU_WIRE_OWN},
            {WEFT_F16, DSGD_AAU_WIRE_OWN},
            {WEFT_F32, DSGD_AAU_WIRE_BF16}};

START_TEST(aau_has_the_bits_of_workers_without) {
    const std::vector<std::vector<size_t>> counts = {{5, 3}, {700, 0, 1333}};
    for (const std::vector<size_t> &count : counts)
        for (int joins = 0; joins < 2; joins++) {
            std::vector<std::vector<unsigned char>> plain, mixed;
            meet(0, count, ways[_i].type, ways[_i].wire, joins != 0, &plain);
            ck_assert(plain[plain.size() - 1] != plain[0]);
            for (unsigned far = 1; far < 4; far++) {
                if (!mine()) continue;
                meet(far, count, ways[_i].type, ways[_i].wire, joins != 0, &mixed);
                expect_same(plain, mixed, far, "joins %d", joins);
            }
        }
}
END_TEST

/* A leader that two others wait for, who know nobody else: it adds up what both have sent. */
static void lead(unsigned far, const std::vector<size_t> &count, weft_dtype dtype, dsgd_aau_wire wire,
                 std::vector<std::vector<unsigned char>> *out) {
    static job j;
    static unsigned char room[WEFT_GRAPH_BYTES(3, 2)];
    static const weft_edge edge[] = {{0, 2}, {1, 2}};
    weft_graph graph;
    dsgd_aau_stats_t stats;
    OK(weft_graph_from_edges(&graph, 3, edge, 2, room, sizeof room));
    j.open(3, far, count, dtype, 2048);
    out->clear();
    for (uint32_t r = 0; r < 3; r++) {
        worker *x = &j.w[r];
        dsgd_aau_desc d;
        weft_detail why;
        memset(&d, 0, sizeof d);
        d.struct_size = sizeof d;
        d.params = x->params.list();
        d.transport = &x->net;
        d.graph = &graph;
        d.wire = wire;
        d.piece_bytes = 1024;
        provide(x, &d, far >> r & 1u,
                [](const dsgd_aau_desc *q, weft_memory_report *m) { return dsgd_aau_memory(q, m); });
        OK(dsgd_aau_init_detail(&x->a, &d, x->memory.data(), x->memory.size(), &why));
        x->s = dsgd_aau_start(x->a);
    }
    for (uint64_t s = 1; s <= 4; s++) {
        for (uint32_t r = 0; r < 3; r++) descend(&j.w[r], s);
        for (uint32_t r = 0; r < 2; r++) ck_assert_int_eq(dsgd_aau_step(j.w[r].a), WEFT_AGAIN);
        for (int turns = 0; turns < 100; turns++) { /* the leader hears that both are ready */
            weft_sim_next(&j.sim);
            for (uint32_t r = 0; r < 3; r++) j.w[r].s = dsgd_aau_poll(j.w[r].a);
        }
        j.w[2].s = dsgd_aau_step(j.w[2].a);
        j.finish([](worker *x) { return dsgd_aau_poll(x->a); });
        for (uint32_t r = 0; r < 3; r++) OK(j.w[r].s);
        dsgd_aau_stats(j.w[2].a, &stats);
        ck_assert_uint_eq(stats.led, s);
        ck_assert_uint_eq(stats.partners, 2 * s);
        keep(&j, far, out);
    }
    j.close();
}

START_TEST(aau_leads_with_the_bits_of_workers_without) {
    const std::vector<std::vector<size_t>> counts = {{5, 3}, {700, 0, 1333}};
    for (const std::vector<size_t> &count : counts) {
        std::vector<std::vector<unsigned char>> plain, mixed;
        lead(0, count, ways[_i].type, ways[_i].wire, &plain);
        for (unsigned far = 1; far < 8; far++) {
            if (!mine()) continue;
            lead(far, count, ways[_i].type, ways[_i].wire, &mixed);
            expect_same(plain, mixed, far, "a leader");
        }
    }
}
END_TEST

/* ---- HPSGD ---- */

/* What is trained, the parameters beside it if they are its 16-bit copy, and what travels. */
static const struct {
    weft_dtype type, params;
    hpsgd_payload payload;
} models[] = {{WEFT_F32, WEFT_F32, HPSGD_PAYLOAD_FULL},  {WEFT_F64, WEFT_F64, HPSGD_PAYLOAD_FULL},
              {WEFT_F32, WEFT_BF16, HPSGD_PAYLOAD_FULL}, {WEFT_F32, WEFT_F16, HPSGD_PAYLOAD_FULL},
              {WEFT_F32, WEFT_F32, HPSGD_PAYLOAD_BF16},  {WEFT_F32, WEFT_BF16, HPSGD_PAYLOAD_BF16},
              {WEFT_F32, WEFT_F16, HPSGD_PAYLOAD_BF16}};

/* Rounds beside training at fixed steps, with a part of the own change carried on; blocking; summed in place; and with
 * a change that is not finite, which voids its round or, with payloads of bf16, is left out. Worker n - 1 begins with
 * other parameters and takes over those of the first. What is kept: parameters and the global model after every step,
 * the blobs at the end, and where the payload stays those of a round under way. */
static void replicate(int v, unsigned far, const std::vector<size_t> &count, int model,
                      std::vector<std::vector<unsigned char>> *out) {
    static job j;
    static tensors narrow[3];
    const weft_dtype dtype = models[model].type;
    const bool copies = models[model].params != dtype;
    const auto blob = [](hpsgd *h) {
        return blob_of([h](void *p, size_t room, size_t *bytes) { return hpsgd_save(h, p, room, bytes); });
    };
    const auto keep_all = [&]() {
        keep(&j, far, out);
        for (uint32_t r = 0; copies && r < 3; r++) {
            narrow[r].get();
            for (const std::vector<unsigned char> &t : narrow[r].host) out->push_back(t);
        }
    };
    j.open(3, far, count, dtype, 2048);
    out->clear();
    for (uint32_t r = 0; r < 3; r++) {
        worker *x = &j.w[r];
        hpsgd_desc d;
        weft_detail why;
        memset(&d, 0, sizeof d);
        d.struct_size = sizeof d;
        d.params = x->params.list();
        d.payload = models[model].payload;
        if (copies) {
            narrow[r].open(count, models[model].params, far >> r & 1u);
            narrow[r].put();
            d.master = d.params;
            d.params = narrow[r].list();
        }
        d.transport = &x->net;
        d.timeout_ns = 1000000000;
        d.check_replicas = 1;
        d.initial = HPSGD_INITIAL_COPY;
        d.mode = v == 1 ? HPSGD_BLOCKING : HPSGD_FIXED;
        d.max_steps = v == 1 ? 0 : 2;
        d.carry = v == 0 ? 0.5 : 0.0;
        if (v == 2) d.keep_delta = WEFT_ZERO;
        if (v == 3 && d.payload == HPSGD_PAYLOAD_BF16) d.guard = HPSGD_GUARD_SKIP;
        if (r == 2) {
            for (std::vector<unsigned char> &t : x->params.host) std::fill(t.begin(), t.end(), 0);
            x->params.put();
        }
        provide(x, &d, far >> r & 1u, [](const hpsgd_desc *q, weft_memory_report *m) { return hpsgd_memory(q, m); });
        OK(hpsgd_init_detail(&x->h, &d, x->memory.data(), x->memory.size(), &why));
        x->s = hpsgd_start(x->h);
    }
    j.finish([](worker *x) { return hpsgd_poll(x->h); });
    for (uint64_t s = 1; s <= STEPS; s++) {
        for (uint32_t r = 0; r < 3; r++) {
            OK(j.w[r].s);
            descend(&j.w[r], s);
            if (v == 3 && r == 1 && s == 4) {
                set(j.w[r].params.view[0], j.w[r].params.host[0].data(), 2, INFINITY);
                j.w[r].params.put();
            }
            j.w[r].s = hpsgd_step(j.w[r].h);
        }
        j.finish([](worker *x) { return hpsgd_poll(x->h); });
        keep_all();
        for (uint32_t r = 0; r < 3; r++) {
            const weft_tensors into = j.w[r].grads.list();
            OK(hpsgd_model(j.w[r].h, &into));
            if (far >> r & 1u) OK(wait_for(j.w[r].gpu.stream));
            j.w[r].grads.get();
            for (const std::vector<unsigned char> &t : j.w[r].grads.host) out->push_back(t);
            if (v != 1 && v != 2) out->push_back(blob(j.w[r].h));
        }
    }
    for (uint32_t r = 0; r < 3; r++) j.w[r].s = hpsgd_drain(j.w[r].h);
    j.finish([](worker *x) { return hpsgd_poll(x->h); });
    for (uint32_t r = 0; r < 3; r++) {
        hpsgd_stats_t stats;
        OK(j.w[r].s);
        hpsgd_stats(j.w[r].h, &stats);
        ck_assert_uint_ge(stats.rounds, 3);
        ck_assert_uint_eq(stats.steps_merged + stats.steps_lost, STEPS);
        ck_assert_int_eq(stats.steps_lost > 0, v == 3 && r == 1);
        ck_assert_int_eq(stats.nonfinite > 0, v == 3 && r == 1);
        ck_assert_int_eq(stats.rounds_void > 0, v == 3 && models[model].payload == HPSGD_PAYLOAD_FULL);
        out->push_back(blob(j.w[r].h));
    }
    keep_all();
    for (uint32_t r = 0; copies && r < 3; r++) narrow[r].close();
    j.close();
}

START_TEST(hpsgd_has_the_bits_of_workers_without) {
    const std::vector<std::vector<size_t>> counts = {{5, 3}, {700, 0, 4333}};
    for (const std::vector<size_t> &count : counts)
        for (int m = 0; m < (int)(sizeof models / sizeof *models); m++) {
            std::vector<std::vector<unsigned char>> plain, mixed;
            replicate(_i, 0, count, m, &plain);
            for (unsigned far = 1; far < 8; far += m < 2 ? 1 : 3) {
                if (!mine()) continue;
                replicate(_i, far, count, m, &mixed);
                expect_same(plain, mixed, far, "model %d", m);
            }
        }
}
END_TEST

/* ---- AdaCons ---- */

/* The aggregates of some rounds: by group and with momentum, not in place and in place, and the plain mean; of three
 * workers, and of five, whose numbers are formed in another way. */
static void aggregate(int v, uint32_t n, unsigned far, const std::vector<size_t> &count, weft_dtype dtype,
                      std::vector<std::vector<unsigned char>> *out) {
    static job j;
    const uint32_t group_of[3] = {0, 1, 0};
    j.open(n, far, count, dtype, 2048);
    out->clear();
    for (uint32_t r = 0; r < n; r++) {
        worker *x = &j.w[r];
        subspace_desc d;
        weft_detail why;
        memset(&d, 0, sizeof d);
        d.struct_size = sizeof d;
        d.gradients = x->grads.list();
        d.transport = &x->net;
        d.timeout_ns = 1000000000;
        d.momentum = 0.9;
        d.in_place = v == 1;
        if (v == 2) d.rule = SUBSPACE_MEAN;
        if (v == 0) {
            d.groups = 2;
            d.group_of_tensor = group_of;
        }
        provide(x, &d, far >> r & 1u,
                [](const subspace_desc *q, weft_memory_report *m) { return subspace_memory(q, m); });
        OK(subspace_init_detail(&x->b, &d, x->memory.data(), x->memory.size(), &why));
    }
    for (uint64_t s = 1; s <= 3; s++) {
        for (uint32_t r = 0; r < n; r++) {
            gradient(&j.w[r], s);
            j.w[r].s = subspace_submit(j.w[r].b, 0, count.size());
        }
        j.finish([](worker *x) { return subspace_poll(x->b); });
        for (uint32_t r = 0; r < n; r++) {
            OK(j.w[r].s);
            if (far >> r & 1u) OK(wait_for(j.w[r].gpu.stream));
            j.w[r].grads.get();
            for (const std::vector<unsigned char> &t : j.w[r].grads.host) out->push_back(t);
        }
    }
    j.close();
}

START_TEST(subspace_has_the_bits_of_workers_without) {
    static const weft_dtype types[] = {WEFT_F32, WEFT_F64, WEFT_BF16, WEFT_F16};
    const std::vector<std::vector<size_t>> counts = {{5, 3, 2}, {700, 33, 9333}};
    for (const std::vector<size_t> &count : counts)
        for (int t = 0; t < 4; t++)
            for (uint32_t n = 3; n <= 5; n += 2) {
                std::vector<std::vector<unsigned char>> plain, mixed;
                aggregate(_i, n, 0, count, types[t], &plain);
                for (unsigned far = 1; far < 1u << n; far += n == 3 ? 2 : 6) {
                    if (!mine()) continue;
                    aggregate(_i, n, far, count, types[t], &mixed);
                    expect_same(plain, mixed, far, "type %d, %u workers", t, (unsigned)n);
                }
            }
}
END_TEST

/* ---- SADDLe ---- */

/* The rule, with every codec in one place or another: their copies and residuals, cross-gradients, own gradients that
 * are coded, gradients in place, and both orders. */
static saddle_desc saddle_kind(int v) {
    static const weft_codec sign = weft_codec_sign(), q4 = weft_codec_q4(), f16 = weft_codec_f16();
    saddle_desc d;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.learning_rate = 0.1;
    d.piece_bytes = 4096;
    d.codec = weft_codec_q8();
    switch (v) {
    case 1:
        d.variant = SADDLE_N;
        d.codec = weft_codec_topk(0.6);
        d.gradient_codec = &sign;
        d.share = 0.5;
        d.compress_self = 1;
        break;
    case 2:
        d.variant = SADDLE_NGC;
        d.codec = sign;
        d.feedback = SADDLE_FEEDBACK;
        d.gradient_codec = &q4;
        d.in_place = 1;
        d.weight_decay = 0.01;
        break;
    case 3:
        d.variant = SADDLE_DSGDM;
        d.codec = weft_codec_bf16();
        d.feedback = SADDLE_NO_FEEDBACK;
        d.order = SADDLE_CTA;
        d.nesterov = 1;
        break;
    case 4:
        d.variant = SADDLE_QGM;
        d.codec = weft_codec_qsgd(5, 1);
        d.order = SADDLE_CTA;
        break;
    case 5:
        d.variant = SADDLE_N;
        d.codec = weft_codec_identity();
        d.gradient_codec = &f16;
        d.in_place = 1;
        d.guard = SADDLE_GUARD_ZERO;
        break;
    case 6:
        d.variant = SADDLE_NGC;
        d.codec = weft_codec_topk(0.6);
        break;
    default: break;
    }
    return d;
}

/* The gradient that is wanted, wherever it is wanted. `spoil`: one that is not finite. */
static void give(worker *x, const saddle_want *w, uint64_t step, bool spoil) {
    if (x->gpu.open) OK(wait_for(x->gpu.stream)); /* what the verb has enqueued */
    for (size_t t = 0; t < w->at.count; t++) {
        const weft_tensor &at = w->at.tensor[t], &into = w->into.tensor[t];
        std::vector<unsigned char> here(at.count * weft_dtype_bytes(at.dtype) + 1), there(here);
        if (!at.count) continue;
        if (x->gpu.open)
            OK(cudaMemcpy(here.data(), at.data, here.size() - 1, cudaMemcpyDeviceToHost));
        else
            memcpy(here.data(), at.data, here.size() - 1);
        for (size_t i = 0; i < at.count; i++)
            set(into, there.data(), i,
                value(at, here.data(), i) * 0.5 + noise(x->rank + 1, step, w->evaluation * 100000 + i + 1000 * t));
        if (spoil) set(into, there.data(), 0, (double)NAN);
        if (x->gpu.open)
            OK(cudaMemcpy(into.data, there.data(), there.size() - 1, cudaMemcpyHostToDevice));
        else
            memcpy(into.data, there.data(), there.size() - 1);
    }
}

static void open_saddle(job *j, uint32_t r, int v, unsigned far, const weft_graph *g) {
    worker *x = &j->w[r];
    saddle_desc d = saddle_kind(v);
    weft_detail why;
    d.params = x->params.list();
    d.transport = &x->net;
    d.graph = g;
    provide(x, &d, far >> r & 1u, [](const saddle_desc *q, weft_memory_report *m) { return saddle_memory(q, m); });
    OK(saddle_init_detail(&x->x, &d, x->memory.data(), x->memory.size(), &why));
}

/* A step of all; after it the blobs of all are kept, and parameters. */
static void saddle_steps(job *j, int v, unsigned far, uint64_t from, uint64_t to,
                         std::vector<std::vector<unsigned char>> *out) {
    for (uint64_t s = from; s <= to; s++) {
        for (uint32_t r = 0; r < j->size; r++) j->w[r].s = WEFT_AGAIN;
        j->finish([s, v](worker *x) {
            saddle_want want;
            const weft_status is = saddle_next(x->x, &want);
            if (is == WEFT_WANT_GRADIENT) give(x, &want, s, v == 5 && s == 3 && x->rank == 1);
            return is;
        });
        for (uint32_t r = 0; r < j->size; r++) {
            OK(j->w[r].s);
            out->push_back(
                blob_of([&](void *p, size_t room, size_t *bytes) { return saddle_save(j->w[r].x, p, room, bytes); }));
        }
        keep(j, far, out);
    }
}

/* A ring of four. In the middle the link of the first two is made anew, which then send their copies whole; then all
 * are made anew from what they saved. */
static void decentralised(int v, unsigned far, const std::vector<size_t> &count, weft_dtype dtype,
                          std::vector<std::vector<unsigned char>> *out) {
    static job j;
    static unsigned char room[WEFT_GRAPH_BYTES(4, 4)];
    weft_graph ring;
    OK(weft_graph_ring(&ring, 4, room, sizeof room));
    j.open(4, far, count, dtype, 4096);
    out->clear();
    for (uint32_t r = 0; r < 4; r++) open_saddle(&j, r, v, far, &ring);
    saddle_steps(&j, v, far, 1, 3, out);
    OK(saddle_peer_lost(j.w[0].x, 1));
    OK(saddle_peer_lost(j.w[1].x, 0));
    for (int up = 0; up < 2; up++) {
        for (int turns = 0; turns < 100; turns++) {
            weft_sim_next(&j.sim);
            for (uint32_t r = 0; r < 4; r++) ck_assert_int_ge(saddle_poll(j.w[r].x), 0);
        }
        if (up) break;
        OK(saddle_peer_up(j.w[0].x, 1));
        OK(saddle_peer_up(j.w[1].x, 0));
    }
    ck_assert_int_eq(saddle_link(j.w[0].x, 1), WEFT_LINK_UP);
    saddle_steps(&j, v, far, 4, 5, out);
    for (uint32_t r = 0; r < 4; r++) {
        saddle_stats_t stats;
        saddle_stats(j.w[r].x, &stats);
        ck_assert_uint_eq(stats.exchanges, 10);                       /* the link's ends have taken part in all steps */
        ck_assert_uint_eq(stats.nonfinite, v == 5 && r == 1 ? 3 : 0); /* at three places */
        saddle_close(j.w[r].x);
        j.w[r].x = NULL;
        j.w[r].gpu.close();
    }
    for (int turns = 0; turns < 100; turns++) weft_sim_next(&j.sim);
    if (saddle_kind(v).codec.kind == WEFT_CODEC_IDENTITY) { /* (else neighbours would not have each other's copies) */
        const size_t last = out->size() - 4 - 4 * count.size();
        for (uint32_t r = 0; r < 4; r++) {
            const std::vector<unsigned char> &blob = (*out)[last + r];
            open_saddle(&j, r, v, far, &ring);
            OK(saddle_load(j.w[r].x, blob.data(), blob.size()));
        }
        saddle_steps(&j, v, far, 6, 6, out);
    }
    j.close();
}

START_TEST(saddle_has_the_bits_of_workers_without) {
    const std::vector<std::vector<size_t>> counts = {{5, 0, 3}, {300, 33, 1100}};
    for (const std::vector<size_t> &count : counts)
        for (int t = 0; t < 2; t++) {
            std::vector<std::vector<unsigned char>> plain, mixed;
            decentralised(_i, 0, count, t ? WEFT_F64 : WEFT_F32, &plain);
            for (unsigned far = 1; far < 16; far += count[0] == 5 ? 4 : 9) {
                if (!mine()) continue;
                decentralised(_i, far, count, t ? WEFT_F64 : WEFT_F32, &mixed);
                expect_same(plain, mixed, far, "type %d", t);
            }
        }
}
END_TEST

/* ---- what goes wrong ---- */

/* Memory that is too small, and a descriptor of another size, are refused with both values; nothing is made. */
START_TEST(what_is_lent_is_checked) {
    static job j;
    grawa_desc d = kind_of(0);
    weft_memory_report report;
    weft_detail why;
    worker *x = &j.w[0];
    j.open(1, 1, {100, 20}, WEFT_F32, 4096);
    x->gpu.lend(0);
    d.params = x->params.list();
    d.transport = &x->net;
    d.cuda = &x->gpu.cuda;
    x->memory.resize(grawa_memory(&d, &report));
    ck_assert_int_eq(grawa_init_detail(&x->g, &d, x->memory.data(), x->memory.size(), &why), WEFT_ERR_MEMORY);
    ck_assert_str_eq(why.field, "cuda.bytes");
    ck_assert_uint_eq(why.expected, report.device_bytes);
    ck_assert_uint_eq(why.got, 0);
    x->gpu.close();
    x->gpu.lend(report.device_bytes);
    x->gpu.cuda.bytes--;
    ck_assert_int_eq(grawa_init_detail(&x->g, &d, x->memory.data(), x->memory.size(), &why), WEFT_ERR_MEMORY);
    ck_assert_uint_eq(why.got, report.device_bytes - 1);
    x->gpu.cuda.bytes++;
    x->gpu.cuda.struct_size--;
    ck_assert_int_eq(grawa_init_detail(&x->g, &d, x->memory.data(), x->memory.size(), &why), WEFT_ERR_ABI);
    ck_assert_ptr_null(x->g);
    x->gpu.cuda.struct_size++;
    OK(grawa_init_detail(&x->g, &d, x->memory.data(), x->memory.size(), &why));
    j.close();
}
END_TEST

/* A worker is lost in a round: those that are left go on, with the bits of a job without GPUs. */
static void lose(unsigned far, uint64_t at, std::vector<std::vector<unsigned char>> *out) {
    static job j;
    uint32_t left[2];
    weft_view view;
    bool lost = false;
    j.open(3, far, {700, 33}, WEFT_F32, 2048);
    begin(&j, 3, far);
    out->clear();
    weft_sim_lose_at_message(&j.sim, 1, at, 0);
    memset(&view, 0, sizeof view);
    view.struct_size = sizeof view;
    view.epoch = 1;
    view.count = 2;
    view.members = left;
    left[0] = 0;
    left[1] = 2;
    for (uint64_t s = 1; s <= STEPS; s++) {
        step(&j, s);
        if (!lost && !weft_sim_alive(&j.sim, 1)) {
            lost = true;
            for (uint32_t r = 0; r < 3; r += 2) {
                if (j.w[r].s != WEFT_ERR_PEER_LOST) OK(j.w[r].s);
                j.w[r].s = grawa_regroup(j.w[r].g, &view);
            }
            j.finish([](worker *x) { return grawa_poll(x->g); });
        }
        for (uint32_t r = 0; r < 3; r++)
            if (weft_sim_alive(&j.sim, r)) OK(j.w[r].s);
    }
    ck_assert(lost);
    keep(&j, far, out);
    j.close();
}

START_TEST(a_loss_in_a_round_is_settled) {
    std::vector<std::vector<unsigned char>> kept;
    for (uint64_t at = 3; at < 60; at += 7)
        for (unsigned far = 0; far < 8; far += 5) lose(far, at, &kept);
}
END_TEST

#ifndef __CUDACC__
/* Also where nobody is told anything: a worker that is alone, and one that saves. */
START_TEST(a_failing_gpu_is_an_error_alone) {
    static job j;
    hpsgd_desc d;
    std::vector<unsigned char> blob;
    size_t bytes = 0;
    worker *x = &j.w[0];
    j.open(1, 1, {700, 33}, WEFT_F32, 2048);
    begin(&j, 3, 1);
    OK(grawa_save(x->g, NULL, 0, &bytes));
    blob.resize(bytes);
    OK(grawa_save(x->g, blob.data(), bytes, &bytes));
    cushim::luck() = 1;
    ck_assert_int_eq(grawa_save(x->g, blob.data(), bytes, &bytes), WEFT_ERR_DEVICE);
    ck_assert_uint_eq(grawa_detail(x->g)->got, cudaErrorLaunchFailure);
    cushim::luck() = -1;
    grawa_close(x->g);
    x->g = NULL;
    x->gpu.close();
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params = x->params.list();
    d.transport = &x->net;
    provide(x, &d, true, [](const hpsgd_desc *q, weft_memory_report *m) { return hpsgd_memory(q, m); });
    cushim::luck() = 1;
    ck_assert_int_eq(hpsgd_init(&x->h, &d, x->memory.data(), x->memory.size()), WEFT_ERR_DEVICE);
    ck_assert_ptr_null(x->h);
    cushim::luck() = -1;
    OK(hpsgd_init(&x->h, &d, x->memory.data(), x->memory.size()));
    descend(x, 1);
    cushim::luck() = 1;
    ck_assert_int_eq(hpsgd_step(x->h), WEFT_ERR_DEVICE);
    ck_assert_int_eq(hpsgd_poll(x->h), WEFT_ERR_DEVICE);
    cushim::luck() = -1;
    j.close();
}
END_TEST

/* From the _i-th synchronisation of a round on the runtime fails: the verb says so, with its error, and goes on saying
 * so; no round is committed with what was computed after that. */
START_TEST(a_failing_gpu_is_an_error) {
    static job j;
    grawa_stats_t stats;
    j.open(2, 1, {700, 33}, WEFT_F32, 2048);
    begin(&j, 0, 1);
    step(&j, 1);
    OK(j.w[0].s);
    cushim::luck() = _i;
    step(&j, 2);
    ck_assert_int_eq(cushim::luck(), 0); /* it has failed */
    ck_assert_int_eq(j.w[0].s, WEFT_ERR_DEVICE);
    ck_assert_int_eq(grawa_poll(j.w[0].g), WEFT_ERR_DEVICE);
    ck_assert_uint_eq(grawa_detail(j.w[0].g)->got, cudaErrorLaunchFailure);
    grawa_stats(j.w[0].g, &stats);
    ck_assert_uint_eq(stats.rounds, 0);
    for (int turns = 0; turns < 200; turns++) { /* and nobody hears of it */
        weft_sim_next(&j.sim);
        (void)grawa_poll(j.w[0].g);
        ck_assert_int_eq(grawa_poll(j.w[1].g), WEFT_AGAIN);
    }
    cushim::luck() = -1;
    j.close();
}
END_TEST
#endif

#ifndef __CUDACC__
/* Likewise of a worker with neighbours: it says so, for good, and they hear nothing more. */
START_TEST(a_failing_gpu_is_an_error_to_saddle) {
    static job j;
    static unsigned char room[WEFT_GRAPH_BYTES(2, 1)];
    std::vector<std::vector<unsigned char>> out;
    weft_graph chain;
    saddle_want want;
    saddle_stats_t before, after;
    OK(weft_graph_chain(&chain, 2, room, sizeof room));
    j.open(2, 1, {700, 33}, WEFT_F32, 4096);
    for (uint32_t r = 0; r < 2; r++) open_saddle(&j, r, 1, 1, &chain);
    saddle_steps(&j, 1, 1, 1, 2, &out);
    saddle_stats(j.w[1].x, &before);
    cushim::luck() = _i;
    for (uint32_t r = 0; r < 2; r++) j.w[r].s = WEFT_AGAIN;
    j.finish([](worker *x) {
        saddle_want w;
        const weft_status is = saddle_next(x->x, &w);
        if (is == WEFT_WANT_GRADIENT) give(x, &w, 3, false);
        return is;
    });
    ck_assert_int_eq(cushim::luck(), 0); /* it has failed */
    ck_assert_int_eq(j.w[0].s, WEFT_ERR_DEVICE);
    ck_assert_uint_eq(saddle_detail(j.w[0].x)->got, cudaErrorLaunchFailure);
    ck_assert_int_eq(saddle_poll(j.w[0].x), WEFT_ERR_DEVICE);
    for (int turns = 0; turns < 300; turns++) {
        weft_sim_next(&j.sim);
        (void)saddle_next(j.w[0].x, &want);
        ck_assert_int_ge(saddle_poll(j.w[1].x), 0);
    }
    saddle_stats(j.w[1].x, &after);
    ck_assert_uint_eq(after.steps, before.steps);
    ck_assert_uint_eq(after.faults, 0);
    cushim::luck() = -1;
    j.close();
}
END_TEST
#endif

static void add(SRunner *r, const char *name, const TTest *t, int first, int end) {
    Suite *s = suite_create(name);
    TCase *c = tcase_create(name);
    tcase_set_timeout(c, 300);
    tcase_add_loop_test(c, t, first, end);
    suite_add_tcase(s, c);
    srunner_add_suite(r, s);
}

int main(void) {
    SRunner *r = srunner_create(NULL);
    int devices = 0, failed;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || !devices) {
        printf("no GPU\n");
        return 77;
    }
    add(r, "sums", sums_have_the_bits_of_those_without, 0, WEFT_ALGORITHM_DOUBLING + 1);
    add(r, "grawa", grawa_has_the_bits_of_workers_without, 0, 6);
    add(r, "aau", aau_has_the_bits_of_workers_without, 0, (int)(sizeof ways / sizeof *ways));
    add(r, "leads", aau_leads_with_the_bits_of_workers_without, 0, (int)(sizeof ways / sizeof *ways));
    add(r, "hpsgd", hpsgd_has_the_bits_of_workers_without, 0, 4);
    add(r, "subspace", subspace_has_the_bits_of_workers_without, 0, 3);
    add(r, "saddle", saddle_has_the_bits_of_workers_without, 0, 7);
    add(r, "lent", what_is_lent_is_checked, 0, 1);
    add(r, "losses", a_loss_in_a_round_is_settled, 0, 1);
#ifndef __CUDACC__
    add(r, "failing", a_failing_gpu_is_an_error, 1, 7);
    add(r, "neighbours", a_failing_gpu_is_an_error_to_saddle, 1, 14);
    add(r, "alone", a_failing_gpu_is_an_error_alone, 0, 1);
#endif
#ifdef __CUDACC__
    srunner_set_fork_status(r, CK_NOFORK); /* a context of the GPU does not live through a fork */
#endif
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
