/* SPDX-License-Identifier: MIT
 * weft.cpp: the only file that knows of the library. Each rule is a class, and each class all that a trainer adds for
 * it: a descriptor, memory, and a call in each step. The tensors are torch's own, described where they are: parameters
 * are contiguous f32, and a gradient that is there before the first backward pass stays at its place.
 *
 * Batch norm's statistics are no parameters. They stay with their worker while it trains, as the papers of grawa.h,
 * dsgd_aau.h, hpsgd.h and saddle.h have it; Everyone averages them for whoever wants one model. (grawa.h does so by
 * itself, if `buffers` names them.) */
#include "weft.h"

#include "c.h"

#include "dsgd_aau.h" // train/library.c is the file that implements them
#include "grawa.h"
#include "hpsgd.h"
#include "saddle.h"
#include "subspace.h"
#include "weft_codec_name.h"
#include "weft_tcp.h"

#include <algorithm>

void weft_check(const Options &o) {
    weft_codec codec;
    if (!weft_codec_parse(&codec, o.codec)) bad_input("--codec: expected " WEFT_CODEC_NAMES ", got '%s'", o.codec);
}

// ---- The network, once ----

struct Network::State {
    weft_tcp tcp;
    weft_transport net;
};

Network::Network(const Options &o, uint64_t job) : state(new State) {
    weft_tcp_blank(&state->tcp);
    if (o.peers.empty()) return;
    weft_tcp_options t = {};
    t.rank = (uint32_t)o.rank;
    t.peers = o.peers.c_str();
    t.job = job;
    t.connect_ns = 120000000000u;
    t.tls_folder = o.tls;
    t.plaintext_on_any_network = o.plaintext;
    if (weft_tcp_open(&state->tcp, &state->net, &t) != WEFT_OK) bad_input("--peers: %s", state->tcp.why);
    if (weft_tcp_join(&state->tcp) != WEFT_OK) broken("%s (or: other options, or other images?)", state->tcp.why);
}

Network::~Network() {
    weft_tcp_close(&state->tcp);
}

// ---- What all rules need ----

// An error ends this worker; the others hear of it, and end as well.
static void check(const char *rule, weft_status s, const weft_detail *d) {
    if (s >= 0) return;
    if (s == WEFT_ERR_NONFINITE) broken("%s: the training has diverged; try a smaller --lr", rule);
    if (s == WEFT_ERR_PEER_LOST) broken("%s: worker %u is gone", rule, (unsigned)d->peer);
    broken("%s: %s (%s; %s: expected %llu, got %llu)", rule, weft_strerror(s), d->phase ? d->phase : "",
           d->field ? d->field : "value", (unsigned long long)d->expected, (unsigned long long)d->got);
}

static uint64_t sent(const weft_traffic &t) {
    return t.payload_sent + t.control_sent;
}

// Torch's tensors, where they are.
struct Tensors {
    std::vector<weft_tensor> list;
    void add(const at::Tensor &t) {
        if (!t.is_contiguous() || t.scalar_type() != at::kFloat) broken("a tensor is not contiguous, or not f32");
        list.push_back({t.data_ptr(), (size_t)t.numel(), WEFT_F32});
    }
    weft_tensors all() const {
        return {list.data(), list.size()};
    }
    static Tensors params(const Trained &t) {
        Tensors to;
        for (const at::Tensor &p : t.params) to.add(p);
        return to;
    }
    static Tensors gradients(const Trained &t) {
        Tensors to;
        for (const at::Tensor &p : t.params) to.add(p.grad());
        return to;
    }
};

// A learner's rule as it is called, where it may send, and the memory of its object.
struct Place {
    const char *name;
    const weft_transport *net;
    uint32_t channel;
    std::vector<unsigned char> memory = {};
};

// ---- One worker alone: what the trainer was before ----

class Alone : public Learner {
  public:
    double step(const std::function<double()> &gradient, const std::function<void()> &optimise) override {
        const double loss = gradient();
        optimise();
        return loss;
    }
};

// ---- subspace.h: between the gradient and the optimiser ----

class Subspace : public Learner {
  public:
    Subspace(const Place &p, const Options &o, const Trained &t, bool mean) : at(p), grads(Tensors::gradients(t)) {
        weft_detail why = {};
        subspace_desc d = {};
        d.struct_size = sizeof d;
        d.gradients = grads.all();
        d.transport = at.net;
        d.channel = at.channel;
        d.rule = mean ? SUBSPACE_MEAN : SUBSPACE_NORMALISED;
        d.momentum = o.subspace_momentum;
        at.memory.resize(subspace_memory(&d, nullptr));
        check(at.name, subspace_init_detail(&a, &d, at.memory.data(), at.memory.size(), &why), &why);
    }
    ~Subspace() override {
        subspace_close(a);
    }
    double step(const std::function<double()> &gradient, const std::function<void()> &optimise) override {
        const double loss = gradient();
        check(at.name, subspace_aggregate(a), subspace_detail(a)); // they are now the mean, or AdaCons' aggregate
        optimise();
        return loss;
    }
    void leave() override {
        check(at.name, subspace_leave(a), subspace_detail(a));
        check(at.name, subspace_wait(a), subspace_detail(a));
    }
    uint64_t bytes() const override {
        subspace_stats_t s;
        subspace_stats(a, &s);
        return sent(s.traffic);
    }

  private:
    Place at;
    Tensors grads;
    subspace *a = nullptr;
};

// ---- grawa.h: after the optimiser; it looks at the gradient ----

class Grawa : public Learner {
  public:
    Grawa(const Place &p, const Options &o, const Trained &t, grawa_weighting weighting)
        : at(p), params(Tensors::params(t)), grads(Tensors::gradients(t)) {
        weft_detail why = {};
        grawa_desc d = {};
        d.struct_size = sizeof d;
        d.params = params.all();
        d.transport = at.net;
        d.channel = at.channel;
        d.weighting = weighting;
        d.period_steps = (uint32_t)o.period;
        d.pull = o.pull;
        at.memory.resize(grawa_memory(&d, nullptr));
        check(at.name, grawa_init_detail(&g, &d, at.memory.data(), at.memory.size(), &why), &why);
    }
    ~Grawa() override {
        grawa_close(g);
    }
    double step(const std::function<double()> &gradient, const std::function<void()> &optimise) override {
        const double loss = gradient();
        optimise();
        const weft_tensors of = grads.all();
        weft_status s = grawa_step(g, &of); // a period ends: exchanges, pulls the parameters
        if (s == WEFT_AGAIN) s = grawa_wait(g);
        check(at.name, s, grawa_detail(g));
        return loss;
    }
    void leave() override {
        check(at.name, grawa_leave(g), grawa_detail(g));
        check(at.name, grawa_wait(g), grawa_detail(g));
    }
    uint64_t bytes() const override {
        grawa_stats_t s;
        grawa_stats(g, &s);
        return sent(s.traffic);
    }

  private:
    Place at;
    Tensors params, grads;
    grawa *g = nullptr;
};

// ---- hpsgd.h: after the optimiser; the sum of the changes runs beside the next steps ----

class Hpsgd : public Learner {
  public:
    Hpsgd(const Place &p, const Options &o, const Trained &t) : at(p), params(Tensors::params(t)) {
        weft_detail why = {};
        hpsgd_desc d = {};
        d.struct_size = sizeof d;
        d.params = params.all();
        d.transport = at.net;
        d.channel = at.channel;
        d.mode = HPSGD_FIXED; // the same run every time; HPSGD_FREE takes as many steps as fit into a round
        d.max_steps = (uint32_t)o.phase;
        d.carry = o.beta;
        at.memory.resize(hpsgd_memory(&d, nullptr));
        check(at.name, hpsgd_init_detail(&h, &d, at.memory.data(), at.memory.size(), &why), &why);
    }
    ~Hpsgd() override {
        hpsgd_close(h);
    }
    double step(const std::function<double()> &gradient, const std::function<void()> &optimise) override {
        const double loss = gradient();
        optimise();
        weft_status s = hpsgd_step(h);          // takes in what has come, sends off what is new
        if (s == WEFT_STALL) s = hpsgd_wait(h); // the network is behind
        check(at.name, s, hpsgd_detail(h));
        return loss;
    }
    void epoch() override { // what is under way goes into the model: the same on all workers
        check(at.name, hpsgd_drain(h), hpsgd_detail(h));
        check(at.name, hpsgd_wait(h), hpsgd_detail(h));
    }
    void leave() override {
        check(at.name, hpsgd_leave(h), hpsgd_detail(h));
        check(at.name, hpsgd_wait(h), hpsgd_detail(h));
    }
    uint64_t bytes() const override {
        hpsgd_stats_t s;
        hpsgd_stats(h, &s);
        return sent(s.traffic);
    }

  private:
    Place at;
    Tensors params;
    hpsgd *h = nullptr;
};

// ---- Graphs: who talks to whom ----

struct Ring {
    weft_graph graph;
    std::vector<unsigned char> memory;
    explicit Ring(size_t workers) : memory(WEFT_GRAPH_BYTES(workers, workers)) {
        weft_graph_ring(&graph, (uint32_t)workers, memory.data(), memory.size());
    }
};

// ---- dsgd_aau.h: after the optimiser; averages with whichever neighbour is ready ----

class DsgdAau : public Learner {
  public:
    DsgdAau(const Place &p, const Options &o, const Trained &t) : at(p), params(Tensors::params(t)), ring(o.workers) {
        weft_detail why = {};
        dsgd_aau_desc d = {};
        d.struct_size = sizeof d;
        d.params = params.all();
        d.transport = at.net;
        d.graph = &ring.graph;
        d.channel = at.channel;
        at.memory.resize(dsgd_aau_memory(&d, nullptr));
        check(at.name, dsgd_aau_init_detail(&x, &d, at.memory.data(), at.memory.size(), &why), &why);
    }
    ~DsgdAau() override {
        dsgd_aau_close(x);
    }
    double step(const std::function<double()> &gradient, const std::function<void()> &optimise) override {
        const double loss = gradient();
        optimise();
        weft_status s = dsgd_aau_step(x);
        if (s == WEFT_AGAIN) s = dsgd_aau_wait(x);
        check(at.name, s, dsgd_aau_detail(x));
        return loss;
    }
    void leave() override { // the others go on without this one
        check(at.name, dsgd_aau_leave(x), dsgd_aau_detail(x));
        check(at.name, dsgd_aau_wait(x), dsgd_aau_detail(x));
    }
    uint64_t bytes() const override {
        dsgd_aau_stats_t s;
        dsgd_aau_stats(x, &s);
        return sent(s.traffic);
    }

  private:
    Place at;
    Tensors params;
    Ring ring;
    dsgd_aau *x = nullptr;
};

// ---- saddle.h: in the optimiser's place; it says where it wants a gradient ----

class Saddle : public Learner {
  public:
    Saddle(const Place &p, const Options &o, const Trained &t)
        : at(p), params(Tensors::params(t)), grads(Tensors::gradients(t)), ring(o.workers) {
        weft_detail why = {};
        saddle_desc d = {};
        d.struct_size = sizeof d;
        d.params = params.all();
        d.transport = at.net;
        d.graph = &ring.graph;
        d.channel = at.channel;
        d.variant = SADDLE_Q;
        d.learning_rate = o.rate;
        d.rho = o.rho;
        d.beta = o.momentum > 0.0 ? o.momentum : WEFT_ZERO;
        d.weight_decay = o.decay;
        d.in_place = 1; // a torch module computes at its own parameters only
        weft_codec_parse(&d.codec, o.codec);
        at.memory.resize(saddle_memory(&d, nullptr));
        check(at.name, saddle_init_detail(&x, &d, at.memory.data(), at.memory.size(), &why), &why);
    }
    ~Saddle() override {
        saddle_close(x);
    }
    double step(const std::function<double()> &gradient, const std::function<void()> &) override {
        double loss = 0.0;
        saddle_want want;
        weft_status s;
        while ((s = saddle_wait(x, &want)) == WEFT_WANT_GRADIENT) { // of the same samples, here and where it climbs to
            const double there = gradient();
            if (!want.climbed) loss = there;
            for (size_t i = 0; i < grads.list.size(); i++)
                std::memcpy(want.into.tensor[i].data, grads.list[i].data, grads.list[i].count * sizeof(float));
        }
        check(at.name, s, saddle_detail(x));
        return loss;
    }
    void learning_rate(double rate) override {
        check(at.name, saddle_set_learning_rate(x, rate), saddle_detail(x));
    }
    void leave() override {
        check(at.name, saddle_leave(x), saddle_detail(x));
        check(at.name, saddle_wait(x, nullptr), saddle_detail(x));
    }
    uint64_t bytes() const override {
        saddle_stats_t s;
        saddle_stats(x, &s);
        return sent(s.traffic);
    }

  private:
    Place at;
    Tensors params, grads;
    Ring ring;
    saddle *x = nullptr;
};

std::unique_ptr<Learner> learner_new(Rule r, const Options &o, Network &net, const Trained &t) {
    const Place at = {RULE_NAME[r], &net.state->net, (uint32_t)r};
    switch (r) {
    case RULE_MEAN: return std::make_unique<Subspace>(at, o, t, true);
    case RULE_SUBSPACE: return std::make_unique<Subspace>(at, o, t, false);
    case RULE_MGRAWA: return std::make_unique<Grawa>(at, o, t, GRAWA_BY_MODEL);
    case RULE_LGRAWA: return std::make_unique<Grawa>(at, o, t, GRAWA_BY_LAYER);
    case RULE_DSGD_AAU: return std::make_unique<DsgdAau>(at, o, t);
    case RULE_HPSGD: return std::make_unique<Hpsgd>(at, o, t);
    case RULE_SADDLE: return std::make_unique<Saddle>(at, o, t);
    default: return std::make_unique<Alone>();
    }
}

// ---- Looking at them: the plain mean of subspace.h once more, of models and of numbers ----

struct Everyone::State {
    size_t workers, rank;
    Tensors list;
    std::vector<double> numbers;
    std::vector<unsigned char> memory;
    subspace *a = nullptr;
};

Everyone::Everyone(Rule r, const Options &o, Network &net, const Trained &t) : state(new State) {
    state->workers = o.workers;
    state->rank = o.rank;
    state->numbers.resize(o.workers * NUMBERS);
    state->list = Tensors::params(t);
    for (const at::Tensor &b : t.buffers) state->list.add(b);
    state->list.list.push_back({state->numbers.data(), state->numbers.size(), WEFT_F64});
    weft_detail why = {};
    subspace_desc d = {};
    d.struct_size = sizeof d;
    d.gradients = state->list.all();
    d.transport = &net.state->net;
    d.channel = RULES + (uint32_t)r; // of its own: another rule's may still be on its way
    d.rule = SUBSPACE_MEAN;
    state->memory.resize(subspace_memory(&d, nullptr));
    check("the mean of the models",
          subspace_init_detail(&state->a, &d, state->memory.data(), state->memory.size(), &why), &why);
}

Everyone::~Everyone() {
    subspace_close(state->a);
}

std::vector<uint64_t> Everyone::mean(const uint64_t (&mine)[NUMBERS]) {
    State &s = *state;
    std::fill(s.numbers.begin(), s.numbers.end(), 0.0);
    for (size_t k = 0; k < NUMBERS; k++) s.numbers[s.rank * NUMBERS + k] = (double)mine[k];
    check("the mean of the models", subspace_aggregate(s.a), subspace_detail(s.a));
    std::vector<uint64_t> all;
    for (double n : s.numbers) all.push_back((uint64_t)(n * (double)s.workers + 0.5)); // the others' part in it was 0
    return all;
}

void Everyone::leave() {
    check("the mean of the models", subspace_leave(state->a), subspace_detail(state->a));
    check("the mean of the models", subspace_wait(state->a), subspace_detail(state->a));
}
