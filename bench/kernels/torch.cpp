// SPDX-License-Identifier: MIT
// torch.cpp: torch on the processor, through its C++ interface, on the same arrays. Forms "as published" are what
// torch.optim and the usual code of the methods do; beside them stands what somebody writes who avoids temporaries.
#include "kernels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace {

struct tensors {
    c10::InferenceMode guard; // nothing is recorded for a backward pass
    at::Tensor x[MODELS], out, matrix, w, backup;
};
std::unique_ptr<tensors> t;

void begin(const arrays *a) {
    at::set_num_threads(a->threads);
    t.reset();
    t = std::make_unique<tensors>();
    for (int i = 0; i < MODELS; i++) t->x[i] = at::from_blob(a->x[i], {(int64_t)a->d}, at::kFloat);
    t->out = at::from_blob(a->out, {(int64_t)a->d}, at::kFloat);
    t->matrix = at::from_blob(a->x[0], {MODELS, (int64_t)a->d}, {(int64_t)a->stride, 1}, at::kFloat);
    t->w = at::empty({MODELS}, at::kFloat);
    for (int i = 0; i < MODELS; i++) t->w[i] = (float)a->w[i];
}

double by_norm(const at::Tensor &x) {
    const double norm = x.norm().item<float>();
    return norm * norm;
}
double by_dot(const at::Tensor &x, const at::Tensor &y) { return x.dot(y).item<float>(); }

void axpy(arrays *a) { t->x[0].add_(t->x[1], a->a); }
void pull_lerp(arrays *a) { t->x[0].lerp_(t->x[1], a->pull); }
void pull_add(arrays *a) { t->x[0].mul_(1 - a->pull).add_(t->x[1], a->pull); }
void sqnorm_norm(arrays *a) { a->result[0] = by_norm(t->x[0]); }
void sqnorm_dot(arrays *a) { a->result[0] = by_dot(t->x[0], t->x[0]); }
void dot(arrays *a) { a->result[0] = by_dot(t->x[0], t->x[1]); }

void dots_norm(arrays *a) {
    dot(a);
    a->result[1] = by_norm(t->x[0]);
    a->result[2] = by_norm(t->x[1]);
}
void dots_dot(arrays *a) {
    dot(a);
    a->result[1] = by_dot(t->x[0], t->x[0]);
    a->result[2] = by_dot(t->x[1], t->x[1]);
}
void dots_two(arrays *a) {
    dot(a);
    a->result[1] = by_dot(t->x[0], t->x[0]);
}

void weighted_sum_add(arrays *a) {
    at::mul_out(t->out, t->x[0], at::scalar_tensor(a->w[0], at::kFloat));
    for (int i = 1; i < MODELS; i++) t->out.add_(t->x[i], a->w[i]);
}
// out = w0 * x0 + w1 * x1 + ...
void weighted_sum_expression(arrays *a) {
    at::Tensor sum = t->x[0] * a->w[0];
    for (int i = 1; i < MODELS; i++) sum = sum + t->x[i] * a->w[i];
    t->out.copy_(sum);
}
void weighted_sum_mv(arrays *) { at::mv_out(t->out, t->matrix.t(), t->w); }

void center_pull_add(arrays *a) {
    weighted_sum_add(a);
    t->x[0].mul_(1 - a->pull).add_(t->out, a->pull);
}
void center_pull_lerp(arrays *a) {
    weighted_sum_add(a);
    t->x[0].lerp_(t->out, a->pull);
}
void center_pull_mv(arrays *a) {
    weighted_sum_mv(a);
    t->x[0].mul_(1 - a->pull).add_(t->out, a->pull);
}

// as torch.optim.SGD does it, and the norm as clip_grad_norm_ takes it
void sgd_published(arrays *a) {
    a->result[0] = by_norm(t->x[1]);
    const at::Tensor d = t->x[1].add(t->x[0], a->decay);
    t->x[2].mul_(a->momentum).add_(d, 1.0);
    t->x[0].add_(t->x[2], -a->rate);
}
void sgd_in_place(arrays *a) {
    a->result[0] = by_norm(t->x[1]);
    t->x[2].mul_(a->momentum).add_(t->x[1]).add_(t->x[0], a->decay);
    t->x[0].add_(t->x[2], -a->rate);
}

// the usual implementation: old_p = p.clone(); e_w = grad * scale; p.add_(e_w)
void sam_published(arrays *a) {
    const at::Tensor norm = t->x[1].norm(), scale = a->rho / (norm + a->eps);
    t->backup = t->x[0].clone();
    const at::Tensor step = t->x[1] * scale;
    t->x[0].add_(step);
    a->result[0] = std::pow((double)norm.item<float>(), 2);
}
void sam_in_place(arrays *a) {
    a->result[0] = by_norm(t->x[1]);
    t->out.copy_(t->x[0]);
    t->x[0].add_(t->x[1], a->rho / (std::sqrt(a->result[0]) + a->eps));
}

// d = x - W; W += S / N; x.copy_(W); S' = d, an array each for d and S / N
void launch_expressions(arrays *a) {
    const at::Tensor d = t->x[0] - t->x[1];
    const at::Tensor mean = t->x[2] / a->count;
    t->x[1].add_(mean);
    t->x[0].copy_(t->x[1]);
    t->out.copy_(d);
}
void launch_in_place(arrays *a) {
    at::sub_out(t->out, t->x[0], t->x[1]);
    t->x[1].add_(t->x[2], 1 / a->count);
    t->x[0].copy_(t->x[1]);
}
void launch_carry_expressions(arrays *a) {
    const at::Tensor d = t->x[0] - (t->x[1] + a->carry * t->x[3]);
    const at::Tensor mean = t->x[2] / a->count;
    t->x[1].add_(mean);
    t->x[0].copy_(t->x[1] + a->carry * d);
    t->x[3].copy_(d);
}
void launch_carry_in_place(arrays *a) {
    t->x[3].mul_(-a->carry).add_(t->x[0]).sub_(t->x[1]);
    t->x[1].add_(t->x[2], 1 / a->count);
    at::add_out(t->x[0], t->x[1], t->x[3], a->carry);
}

const form forms[] = {
    {KERNEL_AXPY, "add_", 0, axpy},
    {KERNEL_PULL, "lerp_", 0, pull_lerp},
    {KERNEL_PULL, "mul_, add_", 0, pull_add},
    {KERNEL_SQNORM, "norm", 0, sqnorm_norm},
    {KERNEL_SQNORM, "dot", 0, sqnorm_dot},
    {KERNEL_DOT, "dot", 0, dot},
    {KERNEL_DOTS, "dot, norm twice", 0, dots_norm},
    {KERNEL_DOTS, "dot three times", 0, dots_dot},
    {KERNEL_DOTS, "dot twice, without y.y", FORM_LESS, dots_two},
    {KERNEL_WEIGHTED_SUM, "mul, 7 add_", 0, weighted_sum_add},
    {KERNEL_WEIGHTED_SUM, "w0 * x0 + w1 * x1 + ...", FORM_TEMPORARIES, weighted_sum_expression},
    {KERNEL_WEIGHTED_SUM, "mv", FORM_MATRIX, weighted_sum_mv},
    {KERNEL_CENTER_PULL, "mul, 7 add_, mul_, add_", 0, center_pull_add},
    {KERNEL_CENTER_PULL, "mul, 7 add_, lerp_", 0, center_pull_lerp},
    {KERNEL_CENTER_PULL, "mv, mul_, add_", FORM_MATRIX, center_pull_mv},
    {KERNEL_SGD, "as torch.optim.SGD, norm", FORM_TEMPORARIES, sgd_published},
    {KERNEL_SGD, "in place, norm", 0, sgd_in_place},
    {KERNEL_SAM, "as published: norm, clone, mul, add_", FORM_TEMPORARIES | FORM_OWN_OUT, sam_published},
    {KERNEL_SAM, "norm, copy_, add_", 0, sam_in_place},
    {KERNEL_LAUNCH, "d = x - W, m = S / N, add_, copy_ twice", FORM_TEMPORARIES, launch_expressions},
    {KERNEL_LAUNCH, "sub, add_, copy_", 0, launch_in_place},
    {KERNEL_LAUNCH_CARRY, "an expression a line", FORM_TEMPORARIES, launch_carry_expressions},
    {KERNEL_LAUNCH_CARRY, "mul_, add_, sub_, add_, add", 0, launch_carry_in_place},
};

// Large arrays are mapped afresh by malloc each time, so that a temporary faults on every page. As it comes: what
// malloc has adapted itself to in a program that has freed many arrays, with its limit of 32 MiB. Tuned: everything
// from the heap, and nothing of it given back. Between the two, what the heap has left goes back.
void allocator(int tuned) {
#ifdef __GLIBC__
    static int now = -1;
    if (tuned == now) return;
    now = tuned;
    t->backup.reset();
    mallopt(M_MMAP_MAX, tuned ? 0 : 65536);
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, tuned ? -1 : 64 << 20);
    if (!tuned) malloc_trim(0);
#else
    (void)tuned;
#endif
}

void version(char *text, size_t size) {
    // "... - CPU capability usage: AVX2 ..."
    const std::string config = at::show_config(), key = "CPU capability usage: ";
    const size_t at = config.find(key);
    const std::string set = at == std::string::npos ? "?" : config.substr(at + key.size());
    std::snprintf(text, size, "%s, kernels for %s", TORCH_VERSION, set.substr(0, set.find('\n')).c_str());
}

} // namespace

extern "C" const peer peer_torch = {"torch", 1, version, begin, allocator, forms, sizeof forms / sizeof *forms};
