/* SPDX-License-Identifier: MIT
 * trainer.c: somebody's trainer, which knows of no workers: a small network tells two spirals apart. trainer.diff
 * beside it is what it takes to train it on several. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { HIDDEN = 24, SAMPLES = 240, STEPS = 3000, PARAMETERS = 4 * HIDDEN };

static float w[PARAMETERS], g[PARAMETERS], v[PARAMETERS]; /* parameters, their gradient, and momentum */

/* Two turns of a spiral; the other one is the same from the other side. */
static void sample(int i, float x[2], float *side) {
    const float turn = (float)(i % (SAMPLES / 2)) / (SAMPLES / 2), angle = 7.0f * turn;
    *side = i < SAMPLES / 2 ? 1.0f : -1.0f;
    x[0] = *side * (0.2f + turn) * cosf(angle);
    x[1] = *side * (0.2f + turn) * sinf(angle);
}

static double gradient(int from, int every) {
    double loss = 0.0;
    for (int k = 0; k < PARAMETERS; k++) g[k] = 0.0f;
    for (int i = from; i < SAMPLES; i += every) {
        float x[2], side, h[HIDDEN], y = 0.0f;
        sample(i, x, &side);
        for (int j = 0; j < HIDDEN; j++) {
            h[j] = tanhf(w[4 * j] * x[0] + w[4 * j + 1] * x[1] + w[4 * j + 2]);
            y += w[4 * j + 3] * h[j];
        }
        const float e = -side / (1.0f + expf(side * y)); /* of the logistic loss */
        loss += log1p(exp(-(double)(side * y)));
        for (int j = 0; j < HIDDEN; j++) {
            const float d = e * w[4 * j + 3] * (1.0f - h[j] * h[j]);
            g[4 * j] += d * x[0];
            g[4 * j + 1] += d * x[1];
            g[4 * j + 2] += d;
            g[4 * j + 3] += e * h[j];
        }
    }
    for (int k = 0; k < PARAMETERS; k++) g[k] /= (float)(SAMPLES / every);
    return loss / (SAMPLES / every);
}

int main(void) {
    srand(1);
    for (int k = 0; k < PARAMETERS; k++) w[k] = 3.0f * ((float)rand() / (float)RAND_MAX - 0.5f);
    for (int step = 1; step <= STEPS; step++) {
        const double loss = gradient(0, 1);
        for (int k = 0; k < PARAMETERS; k++) {
            v[k] = 0.9f * v[k] + g[k];
            w[k] -= 0.2f * v[k];
        }
        if (step % 500 == 0) printf("step %d: loss %.5f\n", step, loss);
    }
    return 0;
}
