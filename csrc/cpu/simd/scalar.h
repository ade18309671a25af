// Scalar conversions that every level shares.
#pragma once
#include "core/half.h"
