// SPDX-License-Identifier: MIT
// peer_gloo.cpp: the all-reduce of torch.distributed's Gloo backend, in place, over the loopback device. One process a
// rank:   peer_gloo RANK RANKS STORE   where STORE is a file by which the processes find each other.
#include "serve.h"

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/version.h>

#include <cstdlib>
#include <vector>

namespace {

c10::intrusive_ptr<c10d::ProcessGroupGloo> group;

void all_reduce(float *x, size_t count) {
    std::vector<at::Tensor> tensors{at::from_blob(x, {(int64_t)count}, at::kFloat)};
    group->allreduce(tensors)->wait();
}

void barrier() { group->barrier()->wait(); }

} // namespace

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    serve s{};
    s.rank = std::atoi(argv[1]);
    s.ranks = std::atoi(argv[2]);
    s.hello = "Gloo of torch " TORCH_VERSION;
    s.all_reduce = all_reduce;
    s.barrier = barrier;
    auto options = c10d::ProcessGroupGloo::Options::create();
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
    group = c10::make_intrusive<c10d::ProcessGroupGloo>(c10::make_intrusive<c10d::FileStore>(argv[3], s.ranks), s.rank,
                                                        s.ranks, options);
    char line[SERVE_LINE];
    while (std::fgets(line, sizeof line, stdin) && serve_command(&s, line)) continue;
    group.reset();
    std::free(s.x);
    return 0;
}
