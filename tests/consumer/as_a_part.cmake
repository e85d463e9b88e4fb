# SPDX-License-Identifier: BSL-1.0
# As a part of another project the library brings its target alone.
foreach(option IN ITEMS BUILD_TESTS BUILD_EXAMPLES BUILD_BENCHMARKS INSTALL)
  if(ACTIVATIONS_${option})
    message(FATAL_ERROR "ACTIVATIONS_${option} is on in a project that only "
      "uses the library")
  endif()
endforeach()
