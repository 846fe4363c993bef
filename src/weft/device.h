/* SPDX-License-Identifier: MIT
 * device.h: tensors in the memory of a GPU (WEFT_CUDA): where an object's data is, and how its bytes are moved. Without
 * WEFT_CUDA there is nothing of this, and bytes are moved by memcpy. */
#include "base.h"
#include "tensor.h"
#include "kernels.h"
#include "wire.h"
/*==== API ====*/

#ifdef WEFT_CUDA
/* The host's GPU, for a descriptor's field `cuda`. All data is then device memory of the GPU that is current whenever a
 * verb is called: the tensors of the descriptor, gradients given to verbs, and what the object holds between rounds,
 * which is in `memory`. Pointers handed to the transport are device memory, too, so it must take them (CUDA-aware MPI,
 * weft_nccl.h's collectives, or weft_staged.h around any other transport); letters are host memory as ever.
 *
 * Work is enqueued on `stream`, behind what the host has enqueued there. A verb waits for the stream, and so for the
 * host's work on it, where it needs a number (norms, hashes, whether a sum is finite) or the transport is to read or
 * write data; other work it only enqueues. What is written into the host's tensors is there for whatever is enqueued on
 * `stream` after the verb. The bits are those of workers without a GPU, with which a job may be mixed (subspace.h: with
 * SUBSPACE_PLAN_EXCHANGE on all). With host_collectives the transport's all_reduce must take device memory, too.
 *
 * WEFT_ERR_DEVICE is for good: nothing more is sent, parameters may be wrong. Close the object, and let the others know
 * that this worker is lost. WEFT_CUDA must be defined wherever the header is included, not only where it is
 * implemented. */
typedef struct weft_cuda {
    size_t struct_size; /* sizeof(weft_cuda) */
    void *stream;       /* a cudaStream_t; NULL: the default stream */
    void *memory;       /* device memory, at least X_memory's report.device_bytes; stays lent until X_close */
    size_t bytes;       /* of it; X_memory looks at neither */
} weft_cuda;
#endif
/*==== IMPLEMENTATION ====*/

#ifdef WEFT_CUDA
/* As weft_layout_take, of what holds elements of tensors. */
WEFT_FN void *weft_layout_data(weft_layout *l, const char *name, size_t count, size_t each) {
    weft_layout there = *l;
    void *p;
    if (!l->apart) return weft_layout_take(l, name, count, each);
    there.base = l->device_base;
    there.offset = l->device_offset;
    p = weft_layout_take(&there, name, count, each);
    if (l->report && l->report->count && l->report->entry[l->report->count - 1].name == name)
        l->report->entry[l->report->count - 1].on_device = 1;
    l->device_offset = there.offset;
    l->overflow = there.overflow;
    return p;
}

/* Of an object whose data is on a GPU. */
typedef struct weft_gpu {
    weft_device device;
    weft_kernels kernels; /* the table for drivers.h: its gpu is this */
    weft_slot *total;     /* device memory */
    unsigned char *scratch;
    unsigned char *codec; /* device memory for kernels/cuda_codec.h; NULL: it is not needed */
    weft_status failed;   /* sticky */
} weft_gpu;

WEFT_FN void weft_gpu_note(weft_gpu *u, weft_status s) {
    if (s < 0 && u->failed == WEFT_OK) u->failed = s == WEFT_ERR_UNSUPPORTED ? WEFT_ERR_DEVICE : s;
}

/* Everything that was enqueued is done. */
WEFT_FN void weft_gpu_settle(weft_gpu *u) {
    weft_gpu_note(u, weft_device_said(&u->device, cudaStreamSynchronize(u->device.stream)));
}

/* Between host and device; done when it returns. */
WEFT_FN void weft_gpu_move(weft_gpu *u, void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    if (!bytes) return;
    weft_gpu_note(u, weft_device_said(&u->device, cudaMemcpyAsync(to, from, bytes, kind, u->device.stream)));
    weft_gpu_settle(u);
}

/* What work with the status `s` of being enqueued has left in `total`. After a failure zeros: nobody looks at them, the
 * object is broken. */
WEFT_FN void weft_gpu_fetch(weft_gpu *u, weft_status s, weft_slot *total, size_t slots) {
    weft_gpu_note(u, s);
    weft_gpu_move(u, total, u->total, slots * sizeof *total, cudaMemcpyDeviceToHost);
    if (u->failed < 0) memset(total, 0, slots * sizeof *total);
}

WEFT_FN void weft_gpu_run(weft_gpu *u, const weft_work *j, weft_slot *total) {
    const size_t slots = j->sums + j->counts;
    const weft_status s = weft_device_run(&u->device, j, slots ? u->total : NULL);
    if (slots)
        weft_gpu_fetch(u, s, total, slots);
    else
        weft_gpu_note(u, s);
}

/* An object's data, to the host and from it. */
WEFT_FN void weft_data_out(weft_gpu *u, void *to, const void *from, size_t bytes) {
    if (u)
        weft_gpu_move(u, to, from, bytes, cudaMemcpyDeviceToHost);
    else if (bytes)
        memcpy(to, from, bytes);
}

WEFT_FN void weft_data_in(weft_gpu *u, void *to, const void *from, size_t bytes) {
    if (u)
        weft_gpu_move(u, to, from, bytes, cudaMemcpyHostToDevice);
    else if (bytes)
        memcpy(to, from, bytes);
}

/* Within the object's data; enqueued. */
WEFT_FN void weft_data_copy(weft_gpu *u, void *to, const void *from, size_t bytes) {
    if (!u)
        memcpy(to, from, bytes);
    else if (bytes)
        weft_gpu_note(u, weft_device_said(
                             &u->device, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, u->device.stream)));
}

/* Two places of the object's data change what they hold, `bytes` bytes of numbers; enqueued. */
WEFT_FN void weft_gpu_exchange(weft_gpu *u, void *a, void *b, size_t bytes) {
    weft_gpu_note(u, weft_device_exchange(&u->device, a, b, bytes));
}

/* All bytes 0; enqueued. */
WEFT_FN void weft_data_zero(weft_gpu *u, void *p, size_t bytes) {
    if (!u)
        memset(p, 0, bytes);
    else if (bytes)
        weft_gpu_note(u, weft_device_said(&u->device, cudaMemsetAsync(p, 0, bytes, u->device.stream)));
}

/* What came from a machine of the other byte order, which is rare: by way of the host. */
WEFT_FN void weft_data_swap(weft_gpu *u, unsigned char *p, size_t bytes, size_t each) {
    unsigned char piece[4096];
    if (!u) weft_swap(p, bytes, each);
    while (u && bytes) {
        const size_t n = bytes < sizeof piece ? bytes : sizeof piece;
        weft_data_out(u, piece, p, n);
        weft_swap(piece, n, each);
        weft_data_in(u, p, piece, n);
        p += n;
        bytes -= n;
    }
}

WEFT_FN weft_status weft_cuda_check(const weft_cuda *c, weft_detail *d) {
    if (c && c->struct_size != sizeof *c)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("cuda.struct_size"), sizeof *c, c->struct_size);
    return WEFT_OK;
}

/* Data goes to the memory that was lent. */
WEFT_FN void weft_cuda_lend(const weft_cuda *c, weft_layout *l) {
    l->apart = c != NULL;
    l->device_base = c && c->memory ? weft_align_memory(c->memory) : NULL;
}

/* Room for the kernels, for tensors as large as those of the two lists, sums over `size` workers, and blocks of so many
 * elements that WEFT_BLOCK has `smaller` of them. */
WEFT_FN void weft_gpu_layout(weft_layout *l, weft_gpu *u, const weft_tensors *a, const weft_tensors *b, uint32_t size,
                             size_t smaller) {
    size_t i, most = 1, bytes;
    if (!l->apart) return;
    for (i = 0; i < a->count; i++)
        if (a->tensor[i].count > most) most = a->tensor[i].count;
    for (i = 0; i < b->count; i++)
        if (b->tensor[i].count > most) most = b->tensor[i].count;
    if (!weft_mul_size(most, smaller, &most) || (bytes = weft_device_bytes(most, size)) == 0) {
        l->overflow = 1;
        return;
    }
    u->scratch = (unsigned char *)weft_layout_data(l, WEFT_TEXT("device work"), bytes, 1);
    u->total = (weft_slot *)weft_layout_data(l, WEFT_TEXT("device results"), WEFT_SLOTS, sizeof(weft_slot));
    u->device.blocks = most; /* until weft_gpu_init */
    u->device.sources = size;
}

WEFT_FN size_t weft_layout_device_total(const weft_layout *l) {
    size_t total = 0;
    if (!l->apart || l->overflow || !weft_add_size(l->device_offset, WEFT_ALIGNMENT - 1, &total)) return 0;
    return total;
}

/* Makes `*kernels` a table that computes there. */
WEFT_FN weft_status weft_gpu_init(weft_gpu *u, const weft_cuda *c, const weft_layout *l, const weft_kernels **kernels,
                                  weft_detail *d) {
    const size_t most = u->device.blocks, sources = u->device.sources, need = weft_layout_device_total(l);
    weft_slot flushed;
    weft_status s;
    if (!c) return WEFT_OK;
    if (!c->memory || c->bytes < need)
        return weft_refuse(d, WEFT_ERR_MEMORY, WEFT_TEXT("cuda.bytes"), need, c->memory ? c->bytes : 0);
    s = weft_device_init(&u->device, (cudaStream_t)c->stream, u->scratch, weft_device_bytes(most, sources), most,
                         sources);
    if (s == WEFT_OK) s = weft_device_float_probe(&u->device, u->total);
    weft_gpu_fetch(u, s, &flushed, 1);
    if (u->failed < 0)
        return weft_refuse(d, u->failed, WEFT_TEXT("cuda (error of the runtime)"), 0, (uint64_t)u->device.error);
    if (flushed.count)
        return weft_refuse(d, WEFT_ERR_FLOAT_ENV, WEFT_TEXT("subnormals are flushed to zero (nvcc -ftz)"), 0,
                           flushed.count);
    u->kernels = **kernels;
    u->kernels.stream = 0;
    u->kernels.gpu = u;
    *kernels = &u->kernels;
    return WEFT_OK;
}

/* What objects do about it, nothing without WEFT_CUDA. `d`: a descriptor. */
#define WEFT_GPU_CHECK(d, detail) weft_cuda_check((d)->cuda, detail)
#define WEFT_GPU_LEND(l, d) weft_cuda_lend((d)->cuda, l)
#define WEFT_GPU_LAYOUT(l, u, a, b, size) weft_gpu_layout(l, u, a, b, size, 1)
#define WEFT_GPU_REPORT(report, l) (void)((report)->device_bytes = weft_layout_device_total(l))
#define WEFT_GPU_INIT(u, d, l, kernels, detail) weft_gpu_init(u, (d)->cuda, l, kernels, detail)
#define WEFT_GPU_USE(part, d, u) (void)((part).gpu = (d)->cuda ? (u) : NULL)
#define WEFT_GPU_SETTLE(map)                                                                                           \
    do {                                                                                                               \
        if ((map).gpu) weft_gpu_settle((map).gpu);                                                                     \
    } while (0)
/* Has it failed? */
#define WEFT_GPU_IS_BROKEN(part) ((part)->gpu && (part)->gpu->failed < 0)
/* If so the group is broken, too, for good: its status. */
#define WEFT_GPU_BREAKS_GROUP(g) weft_group_device(g)
#define WEFT_GPU_OF(map) ((map) ? (map)->gpu : NULL)
#define WEFT_GPU_IN(map) (map).gpu
#else
#define weft_layout_data weft_layout_take
#define WEFT_GPU_CHECK(d, detail) WEFT_OK
#define WEFT_GPU_LEND(l, d) (void)0
#define WEFT_GPU_LAYOUT(l, u, a, b, size) (void)0
#define WEFT_GPU_REPORT(report, l) (void)0
#define WEFT_GPU_INIT(u, d, l, kernels, detail) WEFT_OK
#define WEFT_GPU_USE(part, d, u) (void)0
#define WEFT_GPU_SETTLE(map) (void)0
#define WEFT_GPU_IS_BROKEN(part) 0
#define WEFT_GPU_BREAKS_GROUP(g) WEFT_OK
#define WEFT_GPU_OF(map) NULL
#define WEFT_GPU_IN(map) NULL
#define weft_data_out(gpu, to, from, bytes) memcpy(to, from, bytes)
#define weft_data_in(gpu, to, from, bytes) memcpy(to, from, bytes)
#define weft_data_copy(gpu, to, from, bytes) memcpy(to, from, bytes)
#define weft_data_zero(gpu, p, bytes) memset(p, 0, bytes)
#define weft_data_swap(gpu, p, bytes, each) weft_swap(p, bytes, each)
#endif
