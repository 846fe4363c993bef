/* SPDX-License-Identifier: MIT */
#include "model.h"

#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/normalization.h>

namespace nn = torch::nn;

static nn::AnyModule norm(int64_t channels, bool batch) {
    return batch ? nn::AnyModule(nn::BatchNorm2d(channels))
                 : nn::AnyModule(nn::GroupNorm(nn::GroupNormOptions(8, channels)));
}

static nn::Conv2d convolution(int64_t from, int64_t to, int64_t side, int64_t stride) {
    return nn::Conv2d(nn::Conv2dOptions(from, to, side).stride(stride).padding(side / 2).bias(false));
}

namespace {
class BlockImpl : public nn::Module {
  public:
    BlockImpl(int64_t from, int64_t to, int64_t stride, bool batch)
        : first(register_module("first", convolution(from, to, 3, stride))),
          second(register_module("second", convolution(to, to, 3, 1))), norm1(norm(to, batch)), norm2(norm(to, batch)) {
        register_module("norm1", norm1.ptr());
        register_module("norm2", norm2.ptr());
        if (from == to && stride == 1) return;
        across = register_module("across", nn::Sequential(convolution(from, to, 1, stride)));
        across->push_back(norm(to, batch));
    }

    torch::Tensor forward(torch::Tensor x) {
        const torch::Tensor y = norm2.forward(second(torch::relu(norm1.forward(first(x)))));
        return torch::relu(y + (across ? across->forward(x) : x));
    }

  private:
    nn::Conv2d first, second;
    nn::AnyModule norm1, norm2;
    nn::Sequential across{nullptr};
};
TORCH_MODULE(Block);
} // namespace

ResnetImpl::ResnetImpl(int64_t channels, int64_t classes, int64_t width, int64_t blocks, bool batch_norm) {
    stem = register_module("stem", nn::Sequential(convolution(channels, width, 3, 1)));
    stem->push_back(norm(width, batch_norm));
    stages = register_module("stages", nn::Sequential());
    int64_t from = width;
    for (int64_t stage = 0, to = width; stage < 3; stage++, to *= 2)
        for (int64_t i = 0; i < blocks; i++, from = to)
            stages->push_back(Block(from, to, stage && !i ? 2 : 1, batch_norm));
    head = register_module("head", nn::Linear(from, classes));
}

torch::Tensor ResnetImpl::forward(torch::Tensor x) {
    return head(stages->forward(torch::relu(stem->forward(x))).mean({2, 3}));
}
