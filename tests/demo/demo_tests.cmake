# SPDX-License-Identifier: BSL-1.0
if(TARGET http_service_demo)
  find_package(nlohmann_json CONFIG REQUIRED)
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(sqlite REQUIRED IMPORTED_TARGET sqlite3)
  cmake_path(SET demo_folder NORMALIZE
    "${CMAKE_CURRENT_LIST_DIR}/../../examples/http_service")
  activations_gtest(demo_test
    SOURCES
      "${CMAKE_CURRENT_LIST_DIR}/demo_test.cpp"
      "${CMAKE_CURRENT_LIST_DIR}/output_file_test.cpp"
      "${demo_folder}/output_file.cpp"
    LABEL demo TIMEOUT 60)
  target_include_directories(demo_test PRIVATE "${demo_folder}")
  target_link_libraries(demo_test PRIVATE
    nlohmann_json::nlohmann_json PkgConfig::sqlite)
  target_compile_definitions(demo_test PRIVATE
    DEMO_PROGRAM="$<TARGET_FILE:http_service_demo>")
  add_dependencies(demo_test http_service_demo)
endif()
