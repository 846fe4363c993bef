/* SPDX-License-Identifier: MIT */
#include "run.h"

#include "c.h"
#include "model.h"
#include "weft.h"

#include <ATen/Parallel.h>
#include <torch/nn/functional/loss.h>
#include <torch/optim/sgd.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>

namespace F = torch::nn::functional;

static Resnet model_new(const Options &o, const Images &images) {
    torch::manual_seed(o.seed); // the same model on all workers, and for all rules
    return Resnet((int64_t)images.set().channels, (int64_t)images.set().classes, (int64_t)o.width, (int64_t)o.blocks,
                  o.batch_norm);
}

size_t parameters(const Options &o, const Images &images) {
    size_t n = 0;
    for (const at::Tensor &p : model_new(o, images)->parameters()) n += (size_t)p.numel();
    return n;
}

// What is trained. The gradients are made here, once: torch adds to one that is there, so that it stays where it is.
static Trained trained(Resnet &m) {
    Trained t;
    t.params = m->parameters();
    for (at::Tensor &p : t.params) p.mutable_grad() = torch::zeros_like(p);
    for (const at::Tensor &b : m->buffers()) // and not batch norm's number of batches
        if (b.is_floating_point()) t.buffers.push_back(b);
    return t;
}

static uint64_t hash_of(const Trained &t) {
    uint64_t h = 0;
    for (const at::Tensor &p : t.params) {
        const auto *x = static_cast<const unsigned char *>(p.data_ptr());
        for (int64_t i = 0; i < p.numel(); i++) {
            uint32_t bits;
            std::memcpy(&bits, x + 4 * i, sizeof bits);
            h = rng_mix(h + bits + 1);
        }
    }
    return h >> 32;
}

namespace {

// n images and their labels.
struct Samples {
    torch::Tensor x, y;
    Samples(const dataset &d, size_t n)
        : x(torch::empty({(int64_t)n, (int64_t)d.channels, (int64_t)d.height, (int64_t)d.width})),
          y(torch::empty({(int64_t)n}, torch::kLong)) {}
    float *images() {
        return x.data_ptr<float>();
    }
    int64_t *labels() {
        return y.data_ptr<int64_t>();
    }
};

class Trainer {
  public:
    Trainer(Rule r, const Options &o, const Images &im, Network &net)
        : rule(r), options(o), images(im), model(model_new(o, im)), t(trained(model)),
          stream(im, o, o.rank, r == RULE_SINGLE ? o.workers : 1), samples(im.set(), stream.samples()),
          learner(learner_new(r, o, net, t)), everyone(r == RULE_SINGLE ? nullptr : new Everyone(r, o, net, t)),
          optimiser(
              t.params,
              torch::optim::SGDOptions(o.rate).momentum(o.momentum).nesterov(o.momentum > 0.0).weight_decay(o.decay)) {}
    Run run();

  private:
    double gradient();
    void set_rate(size_t step, size_t steps);
    void test(Look &look);
    Look look(bool last);

    Rule rule;
    const Options &options;
    const Images &images;
    Resnet model;
    Trained t;
    Stream stream;
    Samples samples;
    std::unique_ptr<Learner> learner;
    std::unique_ptr<Everyone> everyone;
    torch::optim::SGD optimiser;
    uint64_t right = 0; // of the samples of the last gradient
};
} // namespace

double Trainer::gradient() {
    for (at::Tensor &p : t.params) p.mutable_grad().zero_(); // and not optimiser.zero_grad(), which may take them away
    const torch::Tensor scores = model(samples.x), loss = F::cross_entropy(scores, samples.y);
    loss.backward();
    right = (uint64_t)scores.argmax(1).eq(samples.y).sum().item<int64_t>();
    return loss.item<double>();
}

// Up over the first twentieth, then down along a cosine.
void Trainer::set_rate(size_t step, size_t steps) {
    const double rising = 1.0 + (double)steps / 20.0, at = (double)step + 1.0;
    const double half = 1.5707963267948966 * (at - rising) / ((double)steps + 1.0 - rising);
    const double rate = options.rate * (at < rising ? at / rising : std::cos(half) * std::cos(half));
    static_cast<torch::optim::SGDOptions &>(optimiser.param_groups()[0].options()).lr(rate);
    learner->learning_rate(rate);
}

void Trainer::test(Look &look) {
    enum { AT_ONCE = 250 };
    torch::NoGradGuard none;
    const size_t count = images.set().test.count;
    model->eval();
    for (size_t first = 0; first < count; first += AT_ONCE) {
        const size_t n = std::min<size_t>(AT_ONCE, count - first);
        Samples s(images.set(), n);
        images.test(first, n, s.images(), s.labels());
        const torch::Tensor scores = model(s.x);
        look.test_loss += F::cross_entropy(scores, s.y).item<double>() * (double)n / (double)count;
        look.test_accuracy += (double)scores.argmax(1).eq(s.y).sum().item<int64_t>() / (double)count;
    }
    model->train();
}

// At the model that the workers have in common: the mean of theirs, which is each one's where all are the same. With
// dsgd_aau nobody waits for all before the end; until then a look is at the model of worker 0.
Look Trainer::look(bool last) {
    Look look = {};
    std::vector<at::Tensor> kept;
    learner->epoch();
    if (last) learner->leave();
    const bool together = everyone && (last || rule != RULE_DSGD_AAU);
    if (together) {
        for (const auto *list : {&t.params, &t.buffers})
            for (const at::Tensor &p : *list) kept.push_back(p.detach().clone());
        std::set<uint64_t> hashes;
        const std::vector<uint64_t> of = everyone->mean({hash_of(t), learner->bytes()});
        for (size_t i = 0; i < of.size(); i += Everyone::NUMBERS) {
            hashes.insert(of[i]);
            look.bytes += of[i + 1] / options.workers;
        }
        look.models = hashes.size();
    }
    if (options.rank == 0) test(look);
    if (!together) return look;
    torch::NoGradGuard none;
    size_t at = 0;
    for (auto *list : {&t.params, &t.buffers})
        for (at::Tensor &p : *list) p.copy_(kept[at++]);
    if (last) everyone->leave();
    return look;
}

Run Trainer::run() {
    Run r = {rule, rule == RULE_SINGLE ? 1 : options.workers, {}};
    const size_t an_epoch = options.train / options.batch, steps = an_epoch * options.epochs;
    const bool speaks = options.rank == 0;
    const double n = (double)stream.samples();
    uint64_t seen = 0, were_right = 0, ns = 0;
    double losses = 0.0, before = 0.0; // all; those of earlier epochs
    progress_line line;
    Look start = {};
    if (speaks) test(start);
    r.look.push_back(start);
    progress_begin(&line, RULE_NAME[rule], steps * stream.samples(), 0.0);
    for (size_t step = 0; step < steps; step++) {
        const uint64_t begun = clock_ns();
        stream.next(samples.images(), samples.labels());
        set_rate(step, steps);
        losses += n * learner->step([this] { return gradient(); }, [this] { optimiser.step(); });
        ns += clock_ns() - begun;
        seen += stream.samples();
        were_right += right;
        if (speaks) progress_show(&line, seen, were_right, losses);
        if ((step + 1) % an_epoch) continue;
        Look l = look(step + 1 == steps);
        l.samples = (uint64_t)(step + 1) * options.batch;
        l.seconds = (double)ns * 1e-9;
        l.train_loss = (losses - before) / (n * (double)an_epoch);
        before = losses;
        r.look.push_back(l);
        if (!speaks) continue;
        progress_end(&line);
        std::fprintf(stderr, "%-8s  epoch %zu of %zu  loss %.4f  test loss %.4f  accuracy %.1f %%  %.0f s left\n",
                     RULE_NAME[rule], (step + 1) / an_epoch, options.epochs, l.train_loss, l.test_loss,
                     100.0 * l.test_accuracy, l.seconds * ((double)steps / (double)(step + 1) - 1.0));
        if (!std::isfinite(l.test_loss)) broken("%s: the training has diverged; try a smaller --lr", RULE_NAME[rule]);
    }
    return r;
}

Run train(Rule r, const Options &o, const Images &images, Network &net) {
    at::set_num_threads((int)o.threads);
    return Trainer(r, o, images, net).run();
}
