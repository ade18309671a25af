// How the emulation runs the threads of a kernel. A correct kernel gives the same bits under every schedule.
#pragma once
#include <cstdint>
#include <string>

namespace eyrie::emulation {

enum class Order : int {
  forward,  // thread 0, 1, 2, …, as far as the next collective each
  reverse,
  random,  // any thread that can run
  first_warp,  // the first warp that can run, as far ahead of the others as barriers allow
  last_warp,
};
constexpr int kOrders = 5;

struct Config {
  Order order = Order::forward;
  bool eager = false;  // asynchronous copies land when they are issued; otherwise when they are waited for
  uint64_t seed = 1;  // of Order::random
  int workers = 0;  // blocks at a time, an OS thread each; 0: one a core
};

// "order=3,eager=1,seed=7,workers=2" over `base`; throws EYRIE_INVALID_ARGUMENT.
Config parse_config(const std::string& text, Config base);

// The schedule of the launches of this process: EYRIE_EMULATION_ORDER, _EAGER, _SEED and _WORKERS, read once; may be changed
// between launches.
Config& config();

// The schedule of the launches of this OS thread while it lives.
class ConfigScope {
 public:
  explicit ConfigScope(const Config& config);
  ~ConfigScope();
  ConfigScope(const ConfigScope&) = delete;
  ConfigScope& operator=(const ConfigScope&) = delete;

 private:
  const Config* outer_;
};
const Config& scoped_config();  // the innermost scope's, or config()

}  // namespace eyrie::emulation
