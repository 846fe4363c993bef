/* SPDX-License-Identifier: MIT
 * measure.h: what is known of a model: how good it is on the test set, and how sharp the minimum is that it is in. */
#ifndef TRAIN_MEASURE_H
#define TRAIN_MEASURE_H

#include "data.h"
#include "model.h"

/* Mean loss, and the share of right answers, on the test set. By all processors. */
void measure_test(const model *m, const dataset *d, const tensor_list *params, double *loss, double *accuracy);

static const double SHARPNESS_RADIUS = 0.05;

/* f(x + rho g / |g|) - f(x), rho being that radius: how far the training loss rises within it, along its gradient g, on
 * 500 images from all over the training set (or all, if there are fewer). The same whatever the processors. */
double measure_sharpness(const model *m, const dataset *d, const tensor_list *params);

#endif
