/* SPDX-License-Identifier: MIT
 * published.h: what an independent simulation has found, another program of other hands: the same kind of problem, with
 * other random numbers, another scale of the data, and its own reading of the rules. Mean of 3 seeds (protocol: 2).
 * Seconds until the mean model has 2 % of the initial gap left, and until all models have on average; workers 4, 16,
 * 64, 128. NAN: not given, or not reached by all. */
#ifndef STRAGGLERS_PUBLISHED_H
#define STRAGGLERS_PUBLISHED_H

#include "methods.h"

enum { PUBLISHED_COUNTS = 4 };
static const uint32_t published_workers[PUBLISHED_COUNTS] = {4, 16, 64, 128};

#define NONE (double)NAN

/* With a step size of 0.2. */
static const double published_mean[METHODS][PUBLISHED_COUNTS] = {
    {491.8, 345.7, 281.5, 272.9}, {511.7, 357.4, 280.1, 296.1}, {618.0, 1058.6, 1205.2, 1209.3},
    {293.1, 244.8, 225.6, 226.3}, {618.0, 831.0, 929.0, 946.0}, {638.0, 644.0, 542.0, 540.0}};
static const double published_all[METHODS][PUBLISHED_COUNTS] = {
    {504.3, 413.9, 294.5, 283.2}, {533.2, 474.3, 317.3, 324.9}, {NONE, NONE, NONE, NONE},
    {NONE, NONE, NONE, NONE},     {NONE, NONE, NONE, NONE},     {NONE, NONE, NONE, NONE}};
/* With the best of 0.2, 0.4, 0.8 (protocol: not given). */
static const double published_best[METHODS][PUBLISHED_COUNTS] = {
    {159.8, 183.5, 74.5, 72.6}, {NONE, NONE, NONE, NONE},     {189.7, 553.6, 299.8, 301.3},
    {107.3, 132.9, 55.3, 54.7}, {236.4, 221.0, 227.0, 226.5}, {178.8, 298.4, 270.8, 267.7}};
static const double published_best_all[METHODS][PUBLISHED_COUNTS] = {
    {229.1, 308.7, 110.9, 91.5},  {NONE, NONE, NONE, NONE},     {289.3, 698.8, 317.1, 308.5},
    {149.2, 156.9, 104.0, 105.5}, {251.7, 238.8, 268.8, 274.5}, {348.0, 470.1, 345.6, 334.1}};

#undef NONE

/* Its number for so many workers, or NAN. */
static inline double published_for(const double row[PUBLISHED_COUNTS], uint32_t workers) {
    for (int i = 0; i < PUBLISHED_COUNTS; i++)
        if (published_workers[i] == workers) return row[i];
    return (double)NAN;
}

#endif
