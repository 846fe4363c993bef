// SPDX-License-Identifier: MIT
// torch.cpp: what the usual code for compressed communication does in torch, on one thread: stochastic 8-bit codes with
// a scale for each 256 elements and error feedback; decoding them into a sum; torch.topk of the magnitudes, and
// a gather.
#include "codecs/peer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/version.h>

#include <cstdio>
#include <memory>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace {

struct tensors {
    c10::InferenceMode guard; // nothing is recorded for a backward pass
    at::Tensor z, kept, out, code, step, values, indices;
    int64_t k;
};
std::unique_ptr<tensors> t;

void q8_encode() {
    const at::Tensor x = t->z + t->kept, b = x.view({-1, 256});
    const at::Tensor step = b.abs().amax(1, true) / 127;
    const at::Tensor level = (b / step).add_(at::rand_like(b)).floor_().clamp_(-127, 127);
    t->code.copy_(level);
    t->step.copy_(step);
    at::sub_out(t->kept, x, (level * step).view({-1}));
}

void q8_decode() { t->out.add_((t->code.to(at::kFloat) * t->step).view({-1}), 0.5); }

void topk() {
    t->indices = std::get<1>(t->z.abs().topk(t->k, 0, true, false));
    t->values = t->z.index_select(0, t->indices);
}

} // namespace

extern "C" {

void peer_begin(const peer_arrays *a) {
    const int64_t d = (int64_t)a->d;
    at::set_num_threads(1);
    t.reset();
    t = std::make_unique<tensors>();
    t->z = at::from_blob(a->z, {d}, at::kFloat);
    t->kept = at::from_blob(a->kept, {d}, at::kFloat);
    t->out = at::from_blob(a->out, {d}, at::kFloat);
    t->code = at::from_blob(a->code, {d / 256, 256}, at::kChar);
    t->step = at::from_blob(a->step, {d / 256, 1}, at::kFloat);
    t->k = (int64_t)a->k;
}

void peer_allocator(int tuned) {
#ifdef __GLIBC__
    static int now = -1;
    if (tuned == now) return;
    now = tuned;
    t->values.reset();
    t->indices.reset();
    mallopt(M_MMAP_MAX, tuned ? 0 : 65536);
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, tuned ? -1 : 64 << 20);
    if (!tuned) malloc_trim(0);
#else
    (void)tuned;
#endif
}

void peer_run(int kind) {
    if (kind == PEER_Q8_ENCODE) q8_encode();
    else if (kind == PEER_Q8_DECODE) q8_decode();
    else topk();
}

void peer_version(char *text, size_t size) { std::snprintf(text, size, "torch %s", TORCH_VERSION); }
}
