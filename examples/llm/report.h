/* SPDX-License-Identifier: MIT
 * report.h: what came of it: a table, numbers for other programs, a picture. */
#ifndef LLM_REPORT_H
#define LLM_REPORT_H

#include "run.h"

/* pairs: what counting pairs of characters comes to. */
void report_table(double pairs, size_t runs, const run_result *run);
void report_csv(const char *file, size_t runs, const run_result *run);
void report_picture(const char *file, const char *title, double pairs, size_t runs, const run_result *run);

#endif
