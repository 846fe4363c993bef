/* SPDX-License-Identifier: MIT
 * network.h: where the workers meet. Nothing of torch: its headers take long to compile. In weft.cpp, with the rest
 * that knows of the library. */
#ifndef LIBTORCH_NETWORK_H
#define LIBTORCH_NETWORK_H

#include "options.h"

#include <memory>

// Ends the program with a line if what the command line says of the library is none of its words.
void weft_check(const Options &o);

// Connects with all workers. `job`: of what must be alike: whoever has another number is not let in. With one worker
// there is nothing to connect.
class Network {
  public:
    Network(const Options &o, uint64_t job);
    ~Network();
    struct State;
    std::unique_ptr<State> state;
};

#endif
