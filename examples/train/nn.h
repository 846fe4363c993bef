/* SPDX-License-Identifier: MIT
 * nn.h: the layers that the models are made of, forward and backward. Matrices are row-major, one sample a row;
 * images are channels x height x width. Backward functions overwrite the gradients they are given, unless they say
 * "adds". */
#ifndef TRAIN_NN_H
#define TRAIN_NN_H

#include <stddef.h>
#include <stdint.h>

/* y (n x out) = x (n x in) w (in x out) + b */
void dense_forward(size_t n, size_t in, size_t out, const float *x, const float *w, const float *b, float *y);
/* From dy the gradients of w, b and, unless dx is NULL, of x. */
void dense_backward(size_t n, size_t in, size_t out, const float *x, const float *w, const float *dy, float *dw,
                    float *db, float *dx);

/* In place: negative values become 0; gradients where y is 0 become 0. */
void relu_forward(size_t n, float *y);
void relu_backward(size_t n, const float *y, float *dy);

/* One image through a 3x3 convolution with a border of zeros: w is out x (in x 9). `columns` is scratch of in x 9 x
 * h x w floats; forward leaves the image there, taken apart. */
void conv_forward(size_t in, size_t out, size_t h, size_t w, const float *x, const float *weight, const float *bias,
                  float *y, float *columns);
/* Adds to dweight and dbias; dx, unless NULL, is overwritten. `columns` as above, overwritten. */
void conv_backward(size_t in, size_t out, size_t h, size_t w, const float *x, const float *weight, const float *dy,
                   float *dweight, float *dbias, float *dx, float *columns);

/* The largest of every 2x2 pixels, and which of the four it was; h and w (of the input) are even. */
void pool_forward(size_t channels, size_t h, size_t w, const float *x, float *y, uint8_t *which);
void pool_backward(size_t channels, size_t h, size_t w, const float *dy, const uint8_t *which, float *dx);

/* Cross entropy of softmax(logits), summed over the n samples. Adds the number of right answers to *correct. With
 * dlogits not NULL: the gradient of the mean loss. */
double softmax_loss(size_t n, size_t classes, const float *logits, const uint8_t *label, float *dlogits,
                    size_t *correct);

#endif
