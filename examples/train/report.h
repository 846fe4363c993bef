/* SPDX-License-Identifier: MIT
 * report.h: what came of the runs, as a table, as numbers for other programs, and as pictures. */
#ifndef TRAIN_REPORT_H
#define TRAIN_REPORT_H

#include "run.h"

#include <stddef.h>

/* One line of the table (and, before the first, its head) on stdout. */
void report_head(void);
void report_line(const run_result *r);

/* Every measured point of every run. */
void report_csv(const char *file, size_t runs, const run_result *run);

/* Accuracy against steps and against seconds. */
void report_curves(const char *file, const char *title, size_t runs, const run_result *run);

/* Runs with unequal workers: accuracy against seconds, and below what each worker did when. */
void report_picture(const char *file, const char *title, const options *o, size_t runs, const run_result *run);

#endif
