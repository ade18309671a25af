// Attention of few rows a request over pages of 8 bits.
#include "cuda/attention_few.cuh"

namespace eyrie::cuda::attention {

template bool attend_decode<e4m3>(const Args&, Context&);
template bool attend_decode<int8_t>(const Args&, Context&);

}  // namespace eyrie::cuda::attention
