// The parent process of gemm_test.cu: runs a child for each variant and sums up what they print.
#pragma once
#include <sys/wait.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace eyrie::cuda {

// Runs `program --child name …`, passes its lines on, keeps those that are JSON.
inline int run_child(const std::string& command, std::vector<std::string>* lines, FILE* json) {
  FILE* p = popen(command.c_str(), "r");
  if (!p) return -1;
  char line[4096];
  while (fgets(line, sizeof line, p)) {
    if (strncmp(line, "JSON ", 5) != 0) {
      fputs(line, stdout);
      continue;
    }
    lines->push_back(line + 5);
    if (json) fputs(line + 5, json);
  }
  fflush(stdout);
  const int status = pclose(p);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

inline std::string field(const std::string& line, const char* name) {
  const std::string key = std::string("\"") + name + "\":";
  const size_t at = line.find(key);
  if (at == std::string::npos) return "";
  const size_t from = at + key.size(), to = line.find_first_of(",}", from);
  return line.substr(from, to - from);
}

inline void table(const std::vector<std::string>& names, const std::vector<int>& codes,
                  const std::vector<std::string>& lines, const int (&timed)[8][3]) {
  printf("\nTFLOP/s (default group)   ");
  for (const auto& s : timed) printf(" %dx%dx%d", s[0], s[1], s[2]);
  printf("  8192^3 by group 4/16/32\n");
  for (size_t i = 0; i < names.size(); i++) {
    int checks = 0, fine = 0, same = 0;
    std::string times, groups;
    for (const std::string& l : lines) {
      if (field(l, "variant") != '"' + names[i] + '"') continue;
      if (field(l, "kind") == "\"check\"") {
        checks++, fine += field(l, "ok") == "1", same += field(l, "differ") == "0";
      } else {
        (field(l, "group") == "0" ? times : groups) += "  " + field(l, "tflops");
      }
    }
    printf("%-7s exit %d; right %d/%d, bits of mma.sync %d/%d; %s |%s\n", names[i].c_str(), codes[i], fine, checks,
           same, checks, times.c_str(), groups.c_str());
  }
}

}  // namespace eyrie::cuda
