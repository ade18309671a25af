// Error: what native code throws; N-API turns it into an EyrieError with the same code.
#pragma once
#include <stdexcept>
#include <string>

namespace eyrie {

class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  const char* code() const { return code_; }

 private:
  const char* code_;  // a literal
};

}  // namespace eyrie
