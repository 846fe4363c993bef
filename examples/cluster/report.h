/* SPDX-License-Identifier: MIT
 * report.h: what came of simulated runs: a table, numbers for other programs, a picture. */
#ifndef CLUSTER_REPORT_H
#define CLUSTER_REPORT_H

#include "run.h"

#include <stddef.h>

void report_head(void);
void report_line(const run_result *r);
void report_csv(const char *file, size_t runs, const run_result *run);
void report_picture(const char *file, const char *title, const options *o, size_t runs, const run_result *run);

#endif
