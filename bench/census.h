/* SPDX-License-Identifier: MIT
 * census.h: who earns more than 50,000 dollars: UCI Adult (adult.data and adult.test), or people drawn by a law of the
 * program's own, as many and of the same shape: six numbers, eight properties. As rows of features: numbers with mean 0
 * and variance 1 over the training part, a 1 for each property's word. */
#ifndef BENCH_CENSUS_H
#define BENCH_CENSUS_H

#include <stddef.h>
#include <stdint.h>

typedef struct census {
    float *row[2]; /* training and test part, a person a row; the first feature goes by age */
    uint8_t *label[2];
    size_t count[2], features;
} census;

/* folder NULL: drawn. Ends the program with a line if a file is not what it should be. */
void census_open(census *c, const char *folder);
void census_close(census *c);

#endif
