/* SPDX-License-Identifier: MIT
 * options.h: the command line. What is not understood ends the program with one clear line and status 2. */
#ifndef LLM_OPTIONS_H
#define LLM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_WORKERS = 64 };

/* How the workers learn together. */
typedef enum rule {
    RULE_SINGLE,   /* one worker alone, with all samples */
    RULE_MEAN,     /* the mean of the workers' gradients, at every step */
    RULE_SUBSPACE, /* AdaCons in its place */
    RULE_HPSGD,    /* each worker trains on while the models' changes are summed up */
    RULES
} rule;

typedef struct options {
    const char *data; /* file; NULL: text that the program makes */
    bool run[RULES];
    size_t workers, rank;
    char *peers;     /* the list: host:port for each worker, with commas */
    bool launch;     /* the workers are to be started here */
    const char *tls; /* folder of certificates; NULL: plaintext */
    bool plaintext;  /* other networks than this machine's own, too */
    size_t layers, width, heads, context;
    size_t steps, batch, every; /* batch: samples a step, of all workers together; every: steps from look to look */
    double rate, decay, subspace_momentum, beta;
    size_t phase; /* hpsgd: steps of a round */
    uint64_t seed;
    size_t generate;
    const char *csv, *svg;
} options;

extern const char *const RULE_NAME[RULES];

/* Fills in defaults, then what the command line says. --help prints and exits. */
void options_parse(options *o, int argc, char **argv);

/* Of what must be the same on all workers. */
uint64_t options_hash(const options *o);

#endif
