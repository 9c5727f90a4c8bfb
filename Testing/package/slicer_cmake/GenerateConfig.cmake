# Slicer writes the extension's description from these variables; the index refuses extensions that lack one.
foreach(name HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if("${EXTENSION_${name}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${name} is empty")
  endif()
  if(NOT "${EXTENSION_${name}}" STREQUAL "NA" AND "${EXTENSION_${name}}" MATCHES "[\n\r]")
    message(FATAL_ERROR "EXTENSION_${name} has more than one line")
  endif()
endforeach()
file(WRITE "${CMAKE_BINARY_DIR}/description.txt"
  "${PROJECT_NAME}\n${EXTENSION_HOMEPAGE}\n${EXTENSION_ICONURL}\n${EXTENSION_SCREENSHOTURLS}\n${EXTENSION_DEPENDS}\n")
