/* SPDX-License-Identifier: MIT
 * weft.h: what makes of a trainer one of many: the rules by which the workers learn together, and what they tell each
 * other when one looks at them. */
#ifndef LIBTORCH_WEFT_H
#define LIBTORCH_WEFT_H

#include "network.h"
#include "options.h"

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

// What a trainer has, whatever it is trained with.
struct Trained {
    std::vector<at::Tensor> params; // their gradients are there, too, and stay where they are
    std::vector<at::Tensor> buffers;
};

// One rule's training, from its beginning.
class Learner {
  public:
    virtual ~Learner() = default;
    // A step: `gradient` leaves the gradient of this step's samples in params' grad() and returns the loss; it may be
    // called twice. `optimise` is torch's own optimiser, which takes it from there. Returns the loss at the beginning.
    virtual double step(const std::function<double()> &gradient, const std::function<void()> &optimise) = 0;
    virtual void learning_rate(double) {}
    // An epoch ends: what the workers have learnt is put together, where the rule has that.
    virtual void epoch() {}
    // After the last step: says good-bye.
    virtual void leave() {}
    virtual uint64_t bytes() const {
        return 0;
    }
};

std::unique_ptr<Learner> learner_new(Rule r, const Options &o, Network &net, const Trained &t);

// Between steps, and no part of any rule: one model, the mean of the workers', and numbers of each of them.
class Everyone {
  public:
    enum { NUMBERS = 2 };
    Everyone(Rule r, const Options &o, Network &net, const Trained &t);
    ~Everyone();
    // Collective: the parameters and buffers of `t` become the mean; keep what they were, if it is needed. `mine`: this
    // worker's numbers, below 2^50; number k of worker w comes back as [w * NUMBERS + k].
    std::vector<uint64_t> mean(const uint64_t (&mine)[NUMBERS]);
    void leave();

  private:
    struct State;
    std::unique_ptr<State> state;
};

#endif
