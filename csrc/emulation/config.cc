#include "emulation/config.h"

#include <algorithm>
#include <cstdlib>

#include "core/error.h"

namespace eyrie::emulation {
namespace {

thread_local const Config* scoped = nullptr;

[[noreturn]] void invalid(const std::string& text) {
  throw Error("EYRIE_INVALID_ARGUMENT",
              "emulation: a schedule is order=0..4,eager=0|1,seed=N,workers=N, got '" + text + "'");
}

void set(Config& c, const std::string& name, const std::string& value, const std::string& text) {
  char* end = nullptr;
  const unsigned long long n = strtoull(value.c_str(), &end, 10);
  if (value.empty() || *end || value[0] == '-') invalid(text);
  if (name == "order" && n < kOrders) c.order = Order(n);
  else if (name == "eager" && n < 2) c.eager = n;
  else if (name == "seed") c.seed = n;
  else if (name == "workers" && n <= 256) c.workers = int(n);
  else invalid(text);
}

void set_from(Config& c, const char* name, const char* value) {
  if (value) set(c, name, value, std::string(name) + "=" + value);
}

Config from_environment() {
  Config c;
  set_from(c, "order", getenv("EYRIE_EMULATION_ORDER"));
  set_from(c, "eager", getenv("EYRIE_EMULATION_EAGER"));
  set_from(c, "seed", getenv("EYRIE_EMULATION_SEED"));
  set_from(c, "workers", getenv("EYRIE_EMULATION_WORKERS"));
  return c;
}

}  // namespace

Config parse_config(const std::string& text, Config base) {
  for (size_t at = 0; at < text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const std::string part = text.substr(at, comma - at);
    const size_t equals = part.find('=');
    if (equals == std::string::npos) invalid(text);
    set(base, part.substr(0, equals), part.substr(equals + 1), text);
    at = comma + 1;
  }
  return base;
}

Config& config() {
  static Config c = from_environment();
  return c;
}

ConfigScope::ConfigScope(const Config& config) : outer_(scoped) { scoped = &config; }
ConfigScope::~ConfigScope() { scoped = outer_; }
const Config& scoped_config() { return scoped ? *scoped : config(); }

}  // namespace eyrie::emulation
