/* SPDX-License-Identifier: MIT */
#include "options.h"

#include "c.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

const char *const RULE_NAME[RULES] = {"single", "mean", "mgrawa", "lgrawa", "subspace", "dsgd_aau", "hpsgd", "saddle"};

static const char USAGE[] = R"(usage: libtorch [options]
Trains a small ResNet with libtorch on images, with several processes that learn together over TCP, by one rule after
the other, each with the same samples, and compares them.

  --data DIR            CIFAR-10 (binary), or MNIST's IDX files; without it: digits that the program draws itself
  --train N --test N    so many of the images (4000, 2000)
  --algorithm NAME,...  single (one worker, all samples), mean (of the workers' gradients), mgrawa, lgrawa (grawa.h, by
                        model and by layer), subspace (AdaCons in place of the mean), dsgd_aau, hpsgd, saddle
                        (Q-SADDLe); default: all
  --workers N --launch  so many processes on this machine (2); --launch may be left out where there is no --peers
  --peers LIST          or on several: host:port of each worker, with commas between, in the order of their ranks; which
                        of them this is, says WEFT_RANK in the environment; all have the same other options
  --tls DIR             encrypted, and only among workers who have a certificate: DIR holds authority.pem,
                        rank-N.pem and rank-N.key, as examples/transports/certificates makes them
  --plaintext-on-any-network   other addresses than this machine's own, though nothing is encrypted
  --threads N           of torch, in each worker (1)
  --width N             channels of the first stage, a multiple of 8 (16); the next two have 2 and 4 times as many
  --blocks N            residual blocks a stage (1)
  --norm group|batch    group (default): each image by itself, so that workers with parts of a batch have the
                        gradients of one with all of it; batch: each worker its own part's statistics
  --epochs N            (3)
  --batch N             samples a step, of all workers together (64)
  --lr X                learning rate at its highest: it rises over the first twentieth, then falls to 0 (0.05)
  --momentum X          (0.9)
  --weight-decay X      (0.0005)
  --subspace-momentum X average of subspace's weights over steps, 0 (none) to below 1 (0.99)
  --period N --pull X   mgrawa, lgrawa: steps from pull to pull, and how far (16, 0.5)
  --phase N --beta X    hpsgd: steps of a round; how much of its own change that is still under way a worker goes on
                        with (4, 0.5)
  --rho X --codec NAME  saddle: radius of the climb; how models travel (0.05, q8)
  --seed N              the same seed gives the same numbers, but for dsgd_aau with more than two workers (1)
  --csv FILE            each epoch as a line of numbers
  --svg FILE            test accuracy against samples
  --help
)";

static void rules(const char *text, bool *run) {
    std::memset(run, 0, RULES * sizeof *run);
    for (;;) {
        const size_t length = std::strcspn(text, ",");
        if (length == 3 && std::strncmp(text, "all", 3) == 0)
            for (int i = 0; i < RULES; i++) run[i] = true;
        else
            run[value_name("--algorithm", text, length, RULE_NAME, RULES,
                           "single, mean, mgrawa, lgrawa, subspace, dsgd_aau, hpsgd, saddle or all")] = true;
        if (!text[length]) return;
        text += length + 1;
    }
}

static size_t count_of(const char *list) {
    size_t n = 1;
    for (; *list; list++) n += *list == ',';
    if (n > MAX_WORKERS) bad_input("--peers: expected at most %zu workers, got %zu", MAX_WORKERS, n);
    return n;
}

static bool is_batch_norm(const char *option, const char *text) {
    static const char *const name[] = {"group", "batch"};
    return value_name(option, text, std::strlen(text), name, 2, "group or batch") == 1;
}

static void check(const Options &o, bool here, const char *rank) {
    const bool far = !o.peers.empty();
    if (far && here) bad_input("--workers and --launch start processes here, --peers says where they are: one of them");
    if (far && !rank) bad_input("--peers: expected WEFT_RANK in the environment, 0 to %zu, got none", o.workers - 1);
    if ((o.tls || o.plaintext) && !far)
        bad_input("%s: expected --peers beside it", o.tls ? "--tls" : "--plaintext-on-any-network");
    if (o.together() && o.workers < 2)
        bad_input("--workers: expected at least 2 for all rules but single, got %zu", o.workers);
    if (o.batch % o.workers)
        bad_input("--batch: expected a multiple of the number of workers (%zu), got %zu", o.workers, o.batch);
    if (o.train < o.batch) bad_input("--train: expected at least --batch (%zu), got %zu", o.batch, o.train);
    if (o.width % 8) bad_input("--width: expected a multiple of 8, got %zu", o.width);
    value_can_write("--csv", o.csv);
    value_can_write("--svg", o.svg);
}

Options::Options(int argc, char **argv) {
    bool here = false;
    rules("all", run);
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
        const auto is = [option](const char *name) { return std::strcmp(option, name) == 0; };
        if (is("--help")) {
            std::fputs(USAGE, stdout);
            std::exit(EXIT_SUCCESS);
        }
        if (is("--plaintext-on-any-network")) {
            plaintext = true;
            continue;
        }
        if (is("--launch")) {
            here = true;
            continue;
        }
        if (std::strncmp(option, "--", 2) != 0) bad_input("expected an option, got '%s' (--help lists them)", option);
        const char *v = i + 1 < argc ? argv[++i] : nullptr;
        // clang-format off
        if (!v) bad_input("%s: unknown, or a value is missing (--help lists the options)", option);
        else if (is("--data")) data = v;
        else if (is("--train")) train = value_count(option, v, 1, 100000000);
        else if (is("--test")) test = value_count(option, v, 1, 100000000);
        else if (is("--algorithm")) rules(v, run);
        else if (is("--workers")) { workers = value_count(option, v, 1, MAX_WORKERS); here = true; }
        else if (is("--peers")) { peers = v; workers = count_of(v); }
        else if (is("--tls")) tls = v;
        else if (is("--threads")) threads = value_count(option, v, 1, 1024);
        else if (is("--width")) width = value_count(option, v, 8, 1024);
        else if (is("--blocks")) blocks = value_count(option, v, 1, 64);
        else if (is("--norm")) batch_norm = is_batch_norm(option, v);
        else if (is("--epochs")) epochs = value_count(option, v, 1, 1000000);
        else if (is("--batch")) batch = value_count(option, v, 1, 65536);
        else if (is("--lr")) rate = value_above_zero(option, v, 10.0);
        else if (is("--momentum")) momentum = value_number(option, v, 0.0, 0.9999);
        else if (is("--weight-decay")) decay = value_number(option, v, 0.0, 1.0);
        else if (is("--subspace-momentum")) subspace_momentum = value_number(option, v, 0.0, 0.999999);
        else if (is("--period")) period = value_count(option, v, 1, 1000000);
        else if (is("--pull")) pull = value_above_zero(option, v, 1.0);
        else if (is("--phase")) phase = value_count(option, v, 1, 1000000);
        else if (is("--beta")) beta = value_number(option, v, 0.0, 1.0);
        else if (is("--rho")) rho = value_above_zero(option, v, 100.0);
        else if (is("--codec")) codec = v;
        else if (is("--seed")) seed = value_whole(option, v, 0, UINT64_MAX);
        else if (is("--csv")) csv = v;
        else if (is("--svg")) svg = v;
        else bad_input("%s: no such option (--help lists them)", option);
        // clang-format on
    }
    const char *is_rank = std::getenv("WEFT_RANK");
    check(*this, here, is_rank);
    if (!peers.empty()) rank = value_count("WEFT_RANK", is_rank, 0, workers - 1);
}

bool Options::together() const {
    for (int i = RULE_SINGLE + 1; i < RULES; i++)
        if (run[i]) return true;
    return false;
}

uint64_t Options::hash() const {
    const double number[] = {rate, decay, momentum, subspace_momentum, pull, beta, rho};
    const uint64_t whole[] = {workers, width, blocks, batch_norm, epochs, batch, train, test, period, phase, seed};
    uint64_t h = 0, bits;
    for (bool r : run) h = rng_mix(h + r);
    for (uint64_t w : whole) h = rng_mix(h + w + 1);
    for (double n : number) {
        std::memcpy(&bits, &n, sizeof bits);
        h = rng_mix(h + bits + 1);
    }
    for (const char *c = codec; *c; c++) h = rng_mix(h + (unsigned char)*c);
    return h;
}
