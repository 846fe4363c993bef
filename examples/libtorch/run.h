/* SPDX-License-Identifier: MIT
 * run.h: the training loop, one rule from beginning to end. */
#ifndef LIBTORCH_RUN_H
#define LIBTORCH_RUN_H

#include "images.h"
#include "network.h"
#include "options.h"

#include <vector>

// One look, at the end of an epoch.
struct Look {
    uint64_t samples;  // that all workers together have trained on
    double train_loss; // of worker 0's samples in the epoch, each before its step
    double test_loss, test_accuracy;
    double seconds; // of training, looks not counted
    uint64_t bytes; // that a worker has sent, in the mean; 0 where they were not asked
    size_t models;  // different ones among the workers, bit by bit; 0: they were not asked
};

struct Run {
    Rule rule;
    size_t workers;
    std::vector<Look> look; // the first is before training
};

// Only rank 0 looks: the others' looks are not filled in.
Run train(Rule r, const Options &o, const Images &images, Network &net);

// Parameters of the model.
size_t parameters(const Options &o, const Images &images);

#endif
