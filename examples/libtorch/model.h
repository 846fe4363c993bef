/* SPDX-License-Identifier: MIT
 * model.h: a small ResNet: a convolution, three stages of residual blocks, and a linear layer on their
 * mean over the image. */
#ifndef LIBTORCH_MODEL_H
#define LIBTORCH_MODEL_H

#include <torch/nn/modules/container/any.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

class ResnetImpl : public torch::nn::Module {
  public:
    // Batch norm, or group norm: with the latter no sample knows of the others in its batch.
    ResnetImpl(int64_t channels, int64_t classes, int64_t width, int64_t blocks, bool batch_norm);
    torch::Tensor forward(torch::Tensor x);

  private:
    torch::nn::Sequential stem{nullptr}, stages{nullptr};
    torch::nn::Linear head{nullptr};
};
TORCH_MODULE(Resnet);

#endif
