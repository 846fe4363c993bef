/* SPDX-License-Identifier: MIT
 * report.h: what came of it: a table, numbers for other programs, a picture. */
#ifndef LIBTORCH_REPORT_H
#define LIBTORCH_REPORT_H

#include "run.h"

void report_table(const std::vector<Run> &runs);
void report_csv(const char *file, const std::vector<Run> &runs);
void report_picture(const char *file, const char *title, const std::vector<Run> &runs);

#endif
