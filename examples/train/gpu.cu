/* SPDX-License-Identifier: MIT
 * gpu.cu: the models on a GPU: matrix products by cuBLAS, the rest by kernels of its own. Every operation of these is
 * rounded once, and every sum has one order, which is that of nn.c and optim.c: between a GPU and a processor only
 * cuBLAS makes a difference, which adds up in an order of its own. */
#ifdef WEFT_CUDA_RUNTIME /* tests bring one of their own, */
#include WEFT_CUDA_RUNTIME
#else
#include <cuda_runtime.h>
#endif
#ifdef TRAIN_CUBLAS /* and products */
#include TRAIN_CUBLAS
#else
#include <cublas_v2.h>
#endif

extern "C" {
#include "device.h"
#include "util.h"
}
#include "gpu.h"
#include "weft_staged.h"

#include <math.h>
#include <string.h>

#ifndef WEFT_LAUNCH
#define WEFT_LAUNCH(error, kernel, grid, block, shared, stream, job)                                                   \
    do {                                                                                                               \
        kernel<<<(grid), (block), (shared), (stream)>>>(job);                                                          \
        (error) = cudaGetLastError();                                                                                  \
    } while (0)
#endif

enum { THREADS = 256, BLOCKS_EACH = 8 /* most, a multiprocessor */ };

/* What becomes of one image: the loss is log(sum) - mine. */
struct outcome {
    double sum, mine;
    unsigned right;
};

struct loan {
    void *memory;
    loan *next;
};

struct gpu {
    device base; /* first */
    cudaStream_t stream;
    cublasHandle_t blas;
    size_t most; /* blocks of threads */
    float *x, *hidden, *dhidden, *logits, *dlogits;
    uint8_t *y;
    outcome *images, *seen; /* seen: pinned, where the host reads them */
    loan *lent;
    weft_staged staged;
    bool stages;
};

/* Of this process. */
static int the_gpu;

static gpu *gpu_of(device *d) {
    return reinterpret_cast<gpu *>(d);
}

static void must(cudaError_t e, const char *what) {
    if (e != cudaSuccess) broken("GPU %d: %s: %s", the_gpu, what, cudaGetErrorString(e));
}

static void must_blas(cublasStatus_t s, const char *what) {
    if (s != CUBLAS_STATUS_SUCCESS) broken("GPU %d: %s: cuBLAS says %d", the_gpu, what, (int)s);
}

template <typename T> static T *far_new(size_t count) {
    void *p;
    must(cudaMalloc(&p, count * sizeof(T)), "memory");
    return static_cast<T *>(p);
}

static void far_free(void *p) {
    must(cudaFree(p), "memory");
}

/* ---- Kernels ---- */

/* Elements i, i + step, i + 2 step, ... are this thread's. */
#define FIRST_ELEMENT ((size_t)blockIdx.x * blockDim.x + threadIdx.x)
#define ELEMENT_STEP ((size_t)gridDim.x * blockDim.x)

/* As many threads as there are elements, if they are not too many. */
#define RUN(g, n, kernel, job)                                                                                         \
    do {                                                                                                               \
        const size_t run_blocks = ((n) + THREADS - 1) / THREADS;                                                       \
        cudaError_t run_error;                                                                                         \
        WEFT_LAUNCH(run_error, kernel, (unsigned)(run_blocks < (g)->most ? run_blocks : (g)->most), THREADS, 0,        \
                    (g)->stream, job);                                                                                 \
        must(run_error, #kernel);                                                                                      \
    } while (0)

struct bias_job {
    size_t n, out;
    const float *b;
    float *y;
};

/* Every row of y becomes b. */
static __global__ void bias_kernel(const bias_job j) {
    for (size_t i = FIRST_ELEMENT; i < j.n * j.out; i += ELEMENT_STEP) j.y[i] = j.b[i % j.out];
}

/* db: the columns of dy, added up from the first row to the last. */
struct columns_job {
    size_t n, out;
    const float *dy;
    float *db;
};

static __global__ void columns_kernel(const columns_job j) {
    for (size_t i = FIRST_ELEMENT; i < j.out; i += ELEMENT_STEP) {
        float sum = 0.0f;
        for (size_t row = 0; row < j.n; row++) sum = __fadd_rn(sum, j.dy[row * j.out + i]);
        j.db[i] = sum;
    }
}

/* `to` becomes 0 where y is not above 0; forward `to` is y itself. */
struct relu_job {
    size_t n;
    const float *y;
    float *to;
};

static __global__ void relu_kernel(const relu_job j) {
    for (size_t i = FIRST_ELEMENT; i < j.n; i += ELEMENT_STEP) j.to[i] = j.y[i] > 0.0f ? j.to[i] : 0.0f;
}

/* As in nn.c, with the same bits. */
static __device__ double exp_negative(double x) {
    if (!(x >= -700.0)) return 0.0;
    const double n = (double)(int)__dsub_rn(__dmul_rn(x, 1.4426950408889634), 0.5);
    const double r =
        __dsub_rn(__dsub_rn(x, __dmul_rn(n, 0.693147180369123816490)), __dmul_rn(n, 1.90821492927058770002e-10));
    double sum = 1.0, power;
    for (int k = 13; k >= 1; k--) sum = __dadd_rn(1.0, __dmul_rn(__ddiv_rn(r, (double)k), sum));
    const uint64_t bits = (uint64_t)(1023 + (int)n) << 52; /* 2^n */
    memcpy(&power, &bits, sizeof power);
    return __dmul_rn(sum, power);
}

/* Of every image what the loss is made of, and with dlogits the gradient of the mean loss: one thread an image. */
struct softmax_job {
    size_t n, classes;
    const float *logits;
    const uint8_t *label;
    float *dlogits;
    outcome *image;
};

static __global__ void softmax_kernel(const softmax_job j) {
    for (size_t i = FIRST_ELEMENT; i < j.n; i += ELEMENT_STEP) {
        const float *logits = j.logits + i * j.classes;
        const size_t label = j.label[i];
        size_t best = 0;
        for (size_t k = 1; k < j.classes; k++)
            if (logits[k] > logits[best]) best = k;
        double sum = 0.0;
        for (size_t k = 0; k < j.classes; k++)
            sum = __dadd_rn(sum, exp_negative((double)__fsub_rn(logits[k], logits[best])));
        j.image[i].sum = sum;
        j.image[i].mine = (double)__fsub_rn(logits[label], logits[best]);
        j.image[i].right = best == label;
        for (size_t k = 0; j.dlogits && k < j.classes; k++) {
            const double p = __ddiv_rn(exp_negative((double)__fsub_rn(logits[k], logits[best])), sum);
            j.dlogits[i * j.classes + k] = (float)__ddiv_rn(__dsub_rn(p, k == label ? 1.0 : 0.0), (double)j.n);
        }
    }
}

struct sgd_job {
    size_t n;
    float *x, *v;
    const float *g;
    float rate, momentum, decay;
    int nesterov;
};

static __global__ void sgd_kernel(const sgd_job j) {
    for (size_t i = FIRST_ELEMENT; i < j.n; i += ELEMENT_STEP) {
        const float d = __fadd_rn(j.g[i], __fmul_rn(j.decay, j.x[i]));
        const float v = __fadd_rn(__fmul_rn(j.momentum, j.v[i]), d);
        j.v[i] = v;
        j.x[i] = __fsub_rn(j.x[i], __fmul_rn(j.rate, j.nesterov ? __fadd_rn(d, __fmul_rn(j.momentum, v)) : v));
    }
}

struct adam_job {
    size_t n;
    float *x, *first, *second;
    const float *g;
    float rate, decay, beta1, beta2, unbias1, unbias2;
};

static __global__ void adam_kernel(const adam_job j) {
    for (size_t i = FIRST_ELEMENT; i < j.n; i += ELEMENT_STEP) {
        const float g = j.g[i], x = j.x[i];
        const float first = __fadd_rn(__fmul_rn(j.beta1, j.first[i]), __fmul_rn(__fsub_rn(1.0f, j.beta1), g));
        const float second =
            __fadd_rn(__fmul_rn(j.beta2, j.second[i]), __fmul_rn(__fmul_rn(__fsub_rn(1.0f, j.beta2), g), g));
        const float step =
            __fdiv_rn(__fmul_rn(j.unbias1, first), __fadd_rn(__fsqrt_rn(__fmul_rn(j.unbias2, second)), 1e-8f));
        j.first[i] = first;
        j.second[i] = second;
        j.x[i] = __fsub_rn(x, __fmul_rn(j.rate, __fadd_rn(step, __fmul_rn(j.decay, x))));
    }
}

/* ---- Layers ---- */

/* c (m x n) = or += a (m x k) b (k x n), row by row as in gemm.h; turned: the factor lies there as its transpose.
 * cuBLAS has matrices column by column, and so is asked for the transpose of it all. Single precision is as it says:
 * by default cuBLAS does not round to TF32. */
static void product(gpu *g, size_t m, size_t n, size_t k, const float *a, bool a_turned, const float *b, bool b_turned,
                    float *c, bool add) {
    const float one = 1.0f, old = add ? 1.0f : 0.0f;
    must_blas(cublasSgemm(g->blas, b_turned ? CUBLAS_OP_T : CUBLAS_OP_N, a_turned ? CUBLAS_OP_T : CUBLAS_OP_N, (int)n,
                          (int)m, (int)k, &one, b, (int)(b_turned ? k : n), a, (int)(a_turned ? m : k), &old, c,
                          (int)n),
              "a product");
}

static void forward(gpu *g, size_t n, size_t in, size_t out, const float *x, const float *w, const float *b, float *y) {
    const bias_job j = {n, out, b, y};
    RUN(g, n * out, bias_kernel, j);
    product(g, n, out, in, x, false, w, false, y, true);
}

static void backward(gpu *g, size_t n, size_t in, size_t out, const float *x, const float *w, const float *dy,
                     float *dw, float *db, float *dx) {
    const columns_job j = {n, out, dy, db};
    product(g, in, out, n, x, true, dy, false, dw, false);
    RUN(g, out, columns_kernel, j);
    if (dx) product(g, n, in, out, dy, false, w, true, dx, false);
}

static void relu(gpu *g, size_t n, const float *y, float *to) {
    const relu_job j = {n, y, to};
    RUN(g, n, relu_kernel, j);
}

/* ---- What a device does ---- */

static tensor_list gpu_tensors_new(device *d) {
    tensor_list t = {{NULL}};
    for (size_t i = 0; i < d->model->tensors; i++) {
        const size_t n = d->model->tensor[i].count;
        t.tensor[i] = far_new<float>(n);
        must(cudaMemsetAsync(t.tensor[i], 0, n * sizeof(float), gpu_of(d)->stream), "memory");
    }
    return t;
}

/* What is to be given back, may still be worked on. */
static void gpu_settle(gpu *g) {
    must(cudaStreamSynchronize(g->stream), "waiting for it");
}

static void gpu_tensors_free(device *d, tensor_list *t) {
    gpu_settle(gpu_of(d));
    for (size_t i = 0; i < d->model->tensors; i++) far_free(t->tensor[i]);
    memset(t, 0, sizeof *t);
}

static void gpu_copy(device *d, tensor_list *to, const tensor_list *from, cudaMemcpyKind kind) {
    gpu *g = gpu_of(d);
    for (size_t i = 0; i < d->model->tensors; i++)
        must(
            cudaMemcpyAsync(to->tensor[i], from->tensor[i], d->model->tensor[i].count * sizeof(float), kind, g->stream),
            "a copy");
    must(cudaStreamSynchronize(g->stream), "a copy");
}

static void gpu_put(device *d, tensor_list *to, const tensor_list *host) {
    gpu_copy(d, to, host, cudaMemcpyHostToDevice);
}

static void gpu_get(device *d, tensor_list *host, const tensor_list *from) {
    gpu_copy(d, host, from, cudaMemcpyDeviceToHost);
}

static void gpu_loss(gpu *g, size_t n, bool differentiate) {
    const size_t classes = g->base.model->classes;
    const softmax_job j = {n, classes, g->logits, g->y, differentiate ? g->dlogits : NULL, g->images};
    RUN(g, n, softmax_kernel, j);
}

/* The processor waits for the whole batch, since it wants the loss; it takes the logarithms, too, in which GPUs differ
 * from C libraries. */
static double gpu_batch(device *d, const tensor_list *p, const float *x, const uint8_t *y, size_t n, tensor_list *grads,
                        size_t *correct) {
    gpu *g = gpu_of(d);
    const model *m = d->model;
    const size_t features = m->features, hidden = m->hidden, classes = m->classes;
    double loss = 0.0;
    must(cudaMemcpyAsync(g->x, x, n * features * sizeof(float), cudaMemcpyHostToDevice, g->stream), "a batch");
    must(cudaMemcpyAsync(g->y, y, n, cudaMemcpyHostToDevice, g->stream), "a batch");
    if (m->kind == MODEL_MLP) {
        forward(g, n, features, hidden, g->x, p->tensor[0], p->tensor[1], g->hidden);
        relu(g, n * hidden, g->hidden, g->hidden);
        forward(g, n, hidden, classes, g->hidden, p->tensor[2], p->tensor[3], g->logits);
        gpu_loss(g, n, grads != NULL);
        if (grads) {
            backward(g, n, hidden, classes, g->hidden, p->tensor[2], g->dlogits, grads->tensor[2], grads->tensor[3],
                     g->dhidden);
            relu(g, n * hidden, g->hidden, g->dhidden);
            backward(g, n, features, hidden, g->x, p->tensor[0], g->dhidden, grads->tensor[0], grads->tensor[1], NULL);
        }
    } else {
        forward(g, n, features, classes, g->x, p->tensor[0], p->tensor[1], g->logits);
        gpu_loss(g, n, grads != NULL);
        if (grads)
            backward(g, n, features, classes, g->x, p->tensor[0], g->dlogits, grads->tensor[0], grads->tensor[1], NULL);
    }
    must(cudaMemcpyAsync(g->seen, g->images, n * sizeof *g->seen, cudaMemcpyDeviceToHost, g->stream), "a batch");
    must(cudaStreamSynchronize(g->stream), "a batch");
    for (size_t i = 0; i < n; i++) {
        loss += log(g->seen[i].sum) - g->seen[i].mine;
        *correct += g->seen[i].right;
    }
    return loss;
}

static void gpu_sgd_step(device *d, sgd *o, tensor_list *params, const tensor_list *grads, float rate) {
    for (size_t i = 0; i < d->model->tensors; i++) {
        const size_t n = d->model->tensor[i].count;
        const sgd_job j = {n,    params->tensor[i], o->velocity.tensor[i], grads->tensor[i],
                           rate, o->momentum,       o->weight_decay,       o->nesterov};
        RUN(gpu_of(d), n, sgd_kernel, j);
    }
}

static void gpu_adam_step(device *d, adam *o, tensor_list *params, const tensor_list *grads, float rate) {
    float unbias1, unbias2;
    adam_unbias(o, &unbias1, &unbias2);
    for (size_t i = 0; i < d->model->tensors; i++) {
        const size_t n = d->model->tensor[i].count;
        const adam_job j = {n,
                            params->tensor[i],
                            o->first.tensor[i],
                            o->second.tensor[i],
                            grads->tensor[i],
                            rate,
                            o->weight_decay,
                            o->beta1,
                            o->beta2,
                            unbias1,
                            unbias2};
        RUN(gpu_of(d), n, adam_kernel, j);
    }
}

static void gpu_close(device *d) {
    gpu *g = gpu_of(d);
    must(cudaSetDevice(the_gpu), "cudaSetDevice"); /* on this thread another one may be current */
    gpu_return(d);
    must_blas(cublasDestroy(g->blas), "cublasDestroy");
    must(cudaStreamDestroy(g->stream), "cudaStreamDestroy");
    far_free(g->x);
    far_free(g->hidden);
    far_free(g->dhidden);
    far_free(g->logits);
    far_free(g->dlogits);
    far_free(g->y);
    far_free(g->images);
    must(cudaFreeHost(g->seen), "memory");
    free(g);
}

/* ---- Opening ---- */

void gpu_begin(size_t rank) {
    int count = 0;
    const cudaError_t e = cudaGetDeviceCount(&count);
    if (e != cudaSuccess || count == 0)
        broken("--device cuda: no GPU: %s", e != cudaSuccess ? cudaGetErrorString(e) : "there are none");
    the_gpu = (int)(rank % (size_t)count);
    must(cudaSetDevice(the_gpu), "cudaSetDevice");
}

device *gpu_open(const model *m, size_t batch) {
    static const device_verbs verbs = {gpu_tensors_new, gpu_tensors_free, gpu_put,       gpu_get,
                                       gpu_batch,       gpu_sgd_step,     gpu_adam_step, gpu_close};
    gpu *g = static_cast<gpu *>(new_array(1, sizeof *g));
    void *pinned;
    int processors;
    g->base.can = &verbs;
    g->base.model = m;
    must(cudaSetDevice(the_gpu), "cudaSetDevice");
    must(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, the_gpu), "cudaDeviceGetAttribute");
    g->most = (size_t)processors * BLOCKS_EACH;
    must(cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    must_blas(cublasCreate(&g->blas), "cublasCreate");
    must_blas(cublasSetStream(g->blas, g->stream), "cublasSetStream");
    g->x = far_new<float>(batch * m->features);
    if (m->kind == MODEL_MLP) {
        g->hidden = far_new<float>(batch * m->hidden);
        g->dhidden = far_new<float>(batch * m->hidden);
    }
    g->logits = far_new<float>(batch * m->classes);
    g->dlogits = far_new<float>(batch * m->classes);
    g->y = far_new<uint8_t>(batch);
    g->images = far_new<outcome>(batch);
    must(cudaMallocHost(&pinned, batch * sizeof *g->seen), "memory");
    g->seen = static_cast<outcome *>(pinned);
    return &g->base;
}

/* ---- For the library ---- */

void gpu_describe(device *d, weft_cuda *c) {
    memset(c, 0, sizeof *c);
    c->struct_size = sizeof *c;
    c->stream = gpu_of(d)->stream;
}

void gpu_lend(device *d, weft_cuda *c, size_t bytes) {
    loan *l = static_cast<loan *>(new_array(1, sizeof *l));
    l->memory = far_new<unsigned char>(bytes ? bytes : 1);
    l->next = gpu_of(d)->lent;
    gpu_of(d)->lent = l;
    c->memory = l->memory;
    c->bytes = bytes;
}

void gpu_stage(device *d, weft_transport *net) {
    gpu *g = gpu_of(d);
    const weft_transport messages = *net;
    if (weft_staged_open(&g->staged, net, &messages, 0) != WEFT_OK) broken("GPU %d: %s", the_gpu, g->staged.why);
    g->stages = true;
}

void gpu_return(device *d) {
    gpu *g = gpu_of(d);
    gpu_settle(g);
    if (g->stages) weft_staged_close(&g->staged);
    g->stages = false;
    while (g->lent) {
        loan *l = g->lent;
        g->lent = l->next;
        far_free(l->memory);
        free(l);
    }
}
