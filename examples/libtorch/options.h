/* SPDX-License-Identifier: MIT
 * options.h: the command line. What is not understood ends the program with one clear line and status 2. */
#ifndef LIBTORCH_OPTIONS_H
#define LIBTORCH_OPTIONS_H

#include <cstddef>
#include <cstdint>
#include <string>

constexpr size_t MAX_WORKERS = 64;

// How the workers learn together.
enum Rule {
    RULE_SINGLE,   // one worker alone, with all samples
    RULE_MEAN,     // the mean of the workers' gradients, at every step
    RULE_MGRAWA,   // models of their own, pulled to where gradients are small: a weight a worker
    RULE_LGRAWA,   // the same with a weight a worker and tensor
    RULE_SUBSPACE, // AdaCons in place of the mean
    RULE_DSGD_AAU, // averages with whichever neighbour is ready
    RULE_HPSGD,    // each worker trains on while the models' changes are summed up
    RULE_SADDLE,   // Q-SADDLe: gradients where the loss nearby is worst, models averaged with the neighbours
    RULES
};

extern const char *const RULE_NAME[RULES];

struct Options {
    const char *data = nullptr; // folder; null: images that the program draws itself
    bool run[RULES] = {};
    size_t workers = 2, rank = 0;
    std::string peers;         // the list: host:port for each worker, with commas; empty: they are started here
    const char *tls = nullptr; // folder of certificates; null: plaintext
    bool plaintext = false;    // other networks than this machine's own, too
    size_t threads = 1;        // of torch, in each worker
    size_t width = 16, blocks = 1;
    bool batch_norm = false;
    size_t epochs = 3, batch = 64, train = 4000, test = 2000; // batch: of all workers together
    double rate = 0.05, decay = 5e-4, momentum = 0.9;
    double subspace_momentum = 0.99, pull = 0.5, beta = 0.5, rho = 0.05;
    size_t period = 16, phase = 4;
    const char *codec = "q8";
    uint64_t seed = 1;
    const char *csv = nullptr, *svg = nullptr;

    // --help prints and exits
    Options(int argc, char **argv);
    // Are there rules in which workers talk?
    bool together() const;
    // Of what must be the same on all workers.
    uint64_t hash() const;
};

#endif
