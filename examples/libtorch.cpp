/* SPDX-License-Identifier: MIT
 * libtorch.cpp: trains a small ResNet with libtorch, data-parallel over TCP, and compares that with a single worker.
 *
 *   build/libtorch                                         two processes, on images that the program draws itself
 *   build/libtorch --data DIR --workers 4 --svg curves.svg
 *   WEFT_RANK=0 build/libtorch --peers host0:7000,host1:7000 --tls tls ...     and the same with WEFT_RANK=1 on host 1
 *
 * Where to look: libtorch/weft.cpp is the only file that knows of the library, libtorch/run.cpp is the training loop
 * that calls it, once a step; model, images, ... are what any trainer has. */
#include "libtorch/c.h"
#include "libtorch/images.h"
#include "libtorch/network.h"
#include "libtorch/options.h"
#include "libtorch/report.h"
#include "libtorch/run.h"

#include <cstdio>
#include <cstdlib>
#include <exception>

static int work(Options &o) {
    std::vector<Run> runs;
    char title[200], *list = nullptr;
    weft_check(o);
    const Images images(o);
    if (o.peers.empty() && o.together()) {
        o.rank = processes_start(o.workers, &list); // torch has done nothing yet: it has no threads
        o.peers = list;
        std::free(list);
    }
    Network net(o, rng_mix(o.hash() ^ images.hash()));
    const dataset &d = images.set();
    std::snprintf(title, sizeof title, "%s, %zu parameters, batch %zu, %zu workers", d.name, parameters(o, images),
                  o.batch, o.workers);
    if (o.rank == 0)
        std::printf("%s\n%zu images to train on, %zu to test with, %zux%zux%zu; %s norm, %zu epochs, seed %llu\n",
                    title, d.train.count, d.test.count, d.width, d.height, d.channels, o.batch_norm ? "batch" : "group",
                    o.epochs, (unsigned long long)o.seed);
    std::fflush(stdout);
    for (int r = 0; r < RULES; r++) // the others wait for rank 0, who also trains alone
        if (o.run[r] && (r != RULE_SINGLE || o.rank == 0)) runs.push_back(train((Rule)r, o, images, net));
    if (o.rank == 0) {
        report_table(runs);
        if (o.csv) report_csv(o.csv, runs);
        if (o.svg) report_picture(o.svg, title, runs);
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    program_name = "libtorch";
    Options o(argc, argv);
    try {
        return work(o);
    } catch (const std::exception &e) { // torch's own words, without the places in its source
        const std::string all = e.what();
        broken("%s", all.substr(0, all.find('\n')).c_str());
    }
}
