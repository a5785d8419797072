# Copyright 2026 timebill_ros authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

# Used only when building against the PyPI "ros-*" wheels, never on a robot. Needs CMake >= 3.24
# (given as CMAKE_PROJECT_TOP_LEVEL_INCLUDES).

# The wheels' exported *__rosidl_generator_py targets carry include paths of the machine
# they were made on (/opt/python/cp3XX-cp3XX/include/...), and CMake stops on those.
# Drop include paths that do not exist here; nothing else is touched.
function(_drop_missing_imported_includes)
  get_property(_targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(_t IN LISTS _targets)
    get_target_property(_dirs ${_t} INTERFACE_INCLUDE_DIRECTORIES)
    if(_dirs)
      set(_kept)
      foreach(_d IN LISTS _dirs)
        if(_d MATCHES "^\\$<" OR EXISTS "${_d}")
          list(APPEND _kept "${_d}")
        endif()
      endforeach()
      set_target_properties(${_t} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${_kept}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL _drop_missing_imported_includes)

# The generated Python target exports numpy's include path, and CMake refuses to export a path
# below the source tree, which is where an environment inside the checkout (.venv) keeps it.
# Nothing that builds against the installed package needs that path from us.
function(_keep_environment_out_of_exports)
  get_property(_targets DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
  foreach(_t IN LISTS _targets)
    get_target_property(_dirs ${_t} INTERFACE_INCLUDE_DIRECTORIES)
    if(_dirs)
      set(_wrapped)
      foreach(_d IN LISTS _dirs)
        string(FIND "${_d}" "${CMAKE_SOURCE_DIR}/" _at)
        if(_at EQUAL 0)
          set(_d "$<BUILD_INTERFACE:${_d}>")
        endif()
        list(APPEND _wrapped "${_d}")
      endforeach()
      set_target_properties(${_t} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${_wrapped}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL _keep_environment_out_of_exports)
